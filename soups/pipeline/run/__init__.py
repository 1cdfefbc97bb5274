"""A run's folder: creating, opening and reading it."""
