"""What a model looks at: maps of the evidence for a class, and how faithful they are."""
