"""Inputs that users reported, made again: one module for each kind, with the command and the right answer.

`tests/reports/` runs every case; `scripts/tried_cases.py` prints the cases with what each command says now.
"""
