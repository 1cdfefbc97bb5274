"""Reports: tables, figures and pages from results that are already computed; nothing here runs a model."""
