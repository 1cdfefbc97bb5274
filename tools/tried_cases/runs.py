"""What a run says before and after it works, and which run a command continues."""

from tools.tried_cases.case import Case

CASES: list[Case] = []
