"""Explanations: maps of the evidence for a class in an image, and measures of their faithfulness."""
