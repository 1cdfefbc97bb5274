"""Checkpoints that other programs wrote, and files that are none."""

from tools.tried_cases.case import Case

CASES: list[Case] = []
