"""Settings classes of the commands."""
