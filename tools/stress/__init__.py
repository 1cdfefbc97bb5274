"""Stress tests of the toolkit's guarantees under kills, full disks and concurrent writers: `scripts/torture.py`."""
