"""What the toolkit promises of kills, full disks and many writers, tried out: `scripts/torture.py`."""
