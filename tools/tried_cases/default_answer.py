"""Which model answers by default."""

from tools.tried_cases.case import Case

CASES: list[Case] = []
