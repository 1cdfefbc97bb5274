"""Floor 6: the stages assembled. Each module is what one command does; `run.py` is a run's folder."""
