"""How a data set's folders and tables are read into the table of samples."""
