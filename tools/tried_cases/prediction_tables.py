"""Tables of predictions and of true classes: ids, classes, probabilities."""

from tools.tried_cases.case import Case

CASES: list[Case] = []
