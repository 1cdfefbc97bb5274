"""Ensembles of models for prediction."""
