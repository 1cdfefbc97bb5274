"""Ensembles that predict."""
