"""Tables of labels: separators, encodings, columns, spellings of classes."""

from tools.tried_cases.case import Case

CASES: list[Case] = []
