"""Code for scripts and tests that is not installed with the package."""
