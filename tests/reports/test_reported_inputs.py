"""Every reported input of `tools/tried_cases/` is answered right."""

from pathlib import Path

import pytest

from tools.tried_cases.case import SECTIONS, Case, find_faults, load_cases, run_case

# Processes of their own take seconds to start.
CASES = [
    pytest.param(case, id=f"{section}: {case.name}", marks=[pytest.mark.second_tier] if case.environment else [])
    for section in SECTIONS
    for case in load_cases(section)
]


@pytest.mark.parametrize("case", CASES)
def test_reported_input_is_answered_right(case: Case, tmp_path: Path) -> None:
    outcome = run_case(case, tmp_path)
    assert find_faults(case, outcome, tmp_path) == [], "\n".join(outcome.texts)


def test_a_wrong_answer_is_found(tmp_path: Path) -> None:
    case = Case(
        "no data", lambda folder: None, ("finetune --data-location data",), 3, says=("a word that is not said",)
    )
    assert find_faults(case, run_case(case, tmp_path), tmp_path) == ["does not say 'a word that is not said'"]
