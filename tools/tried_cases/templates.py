"""Templates of answers, and files that predictions are written to."""

from tools.tried_cases.case import Case

CASES: list[Case] = []
