"""Checkpoints written by other tools."""
