"""Encodings, plotting backends and terminals."""

from tools.tried_cases.case import Case

CASES: list[Case] = []
