"""Soups of a run: refused before any work, made in parts, within a budget, or without looking at an image."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import main
from soups.checkpoints.card import read_card
from soups.checkpoints.checkpoint import read_state, write_checkpoint
from soups.pipeline.soup import make as soup

ErrorOf = Callable[[], str]

KILLED = """
import os, signal, sys
import main
from soups.pipeline.soup import make as soup

append, written = soup.append_record, []

def append_then_die(path, line):
    append(path, line)
    written.append(line)
    if len(written) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

soup.append_record = append_then_die
main.main(["--greedy-soup"])
"""


def soup_of(desk: Any, recipe: str) -> Path:
    return desk.run / "models" / f"toys_{recipe}_soup.safetensors"


@pytest.mark.parametrize("decisions", [1, 2])
def test_a_killed_command_leaves_no_partial_soup_and_resumes_where_its_log_ends(copy_of: Any, decisions: int) -> None:
    expected = soup_of(copy_of, "greedy").read_bytes()
    soup_of(copy_of, "greedy").unlink()
    trace = copy_of.run / "logs" / "greedy_soup.jsonl"
    whole = copy_of.log("greedy_soup.jsonl")
    trace.unlink()
    files = set((copy_of.run / "models").iterdir())
    root = Path(__file__).parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(decisions)],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=copy_of.folder,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert set((copy_of.run / "models").iterdir()) == files
    left = trace.read_text()
    assert len(left.splitlines()) == decisions < len(whole)
    assert main.main(["--greedy-soup"]) == 0
    assert trace.read_text().startswith(left)
    names = [line["candidate"] for line in copy_of.log("greedy_soup.jsonl")]
    assert names == [line["candidate"] for line in whole]
    assert soup_of(copy_of, "greedy").read_bytes() == expected


def test_parallel_judging_gives_the_same_bytes(copy_of: Any) -> None:
    path, trace = soup_of(copy_of, "greedy"), copy_of.run / "logs" / "greedy_soup.jsonl"
    expected, decisions = path.read_bytes(), copy_of.log("greedy_soup.jsonl")
    path.unlink()
    trace.unlink()
    assert main.main(["--greedy-soup", "--at-once", "2", "--scores", "False"]) == 0
    assert path.read_bytes() == expected
    logged = [(line["candidate"], line["accepted"]) for line in copy_of.log("greedy_soup.jsonl")]
    assert logged == [(line["candidate"], line["accepted"]) for line in decisions] and len(logged) == 3


def overwrite_tensor(path: Path, key: str, value: float) -> None:
    card, state = read_card(path), read_state(path)
    assert card is not None
    state = {name: tensor.clone() for name, tensor in state.items()}
    state[key].view(-1)[-1] = value
    write_checkpoint(path, state, card)


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_a_model_that_is_not_finite_is_refused_before_anything_is_scored(
    copy_of: Any, error_of: ErrorOf, value: float, word: str
) -> None:
    path = sorted((copy_of.run / "models").glob("toys1_*"))[0]
    overwrite_tensor(path, "head.bias", value)
    before = copy_of.log("individual_results.jsonl"), soup_of(copy_of, "greedy").read_bytes()
    assert main.main(["--greedy-soup"]) == 3
    message = error_of()
    assert path.stem in message and "'head.bias'" in message and word in message
    assert (copy_of.log("individual_results.jsonl"), soup_of(copy_of, "greedy").read_bytes()) == before


def test_a_model_of_another_shape_is_refused_by_its_header(copy_of: Any, error_of: ErrorOf) -> None:
    path = sorted((copy_of.run / "models").glob("toys1_*"))[0]
    card, state = read_card(path), dict(read_state(path))
    assert card is not None
    state["head.bias"] = torch.zeros(5)
    write_checkpoint(path, state, card)
    assert main.main(["--uniform-soup", "--scores", "False"]) == 3
    message = error_of()
    assert path.stem in message and "'head.bias'" in message
    assert "(3,)" in message and "(5,)" in message


def test_a_uniform_soup_without_scores_opens_no_image(copy_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = read_state(soup_of(copy_of, "uniform"))
    expected = {key: tensor.clone() for key, tensor in scored.items()}
    lines = copy_of.log("soup_results.jsonl")
    soup_of(copy_of, "uniform").unlink()
    (copy_of.run / "samples.csv").unlink()
    assert main.main(["--uniform-soup", "--scores", "False"]) == 0
    state = read_state(soup_of(copy_of, "uniform"))
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert copy_of.log("soup_results.jsonl") == lines
    straight = soup_of(copy_of, "uniform").read_bytes()
    soup_of(copy_of, "uniform").unlink()
    monkeypatch.setattr(soup, "can_average_files", lambda files: False)
    assert main.main(["--uniform-soup", "--scores", "False"]) == 0
    assert soup_of(copy_of, "uniform").read_bytes() == straight  # With torch and without.


def test_a_budget_ends_the_recipe_and_the_card_lists_untried_models(copy_of: Any, error_of: ErrorOf) -> None:
    assert main.main(["--greedy-soup", "--budget-evaluations", "1", "--scores", "False"]) == 0
    assert "1 more was not tried, the budget was spent" in error_of()
    card = read_card(soup_of(copy_of, "greedy"))
    assert card is not None and card.soup is not None
    assert len(card.soup.options["untried"]) == 1 and card.soup.request["evaluations"] == 1
    assert main.main(["--soup", "pruned", "--budget-minutes", "0", "--scores", "False"]) == 0
    card = read_card(soup_of(copy_of, "pruned"))
    assert card is not None and card.soup is not None and len(card.soup.ingredients) == 3


def test_greedy_uses_the_acceptance_rule_of_the_flag(copy_of: Any, error_of: ErrorOf) -> None:
    assert main.main(["--greedy-soup", "--accept", "significant", "--significance", "0.01", "--scores", "False"]) == 0
    card = read_card(soup_of(copy_of, "greedy"))
    assert card is not None and card.soup is not None
    assert card.soup.request["accept"] == "significant" and card.soup.request["level"] == 0.01
    last = json.loads((copy_of.run / "logs" / "greedy_soup.jsonl").read_text().splitlines()[-1])
    assert {"gained", "lost", "why"} <= last.keys()
    error_of()
    assert main.main(["--greedy-soup", "--accept", "sometimes"]) == 2
    assert "sometimes" in error_of()


def test_a_soup_of_named_models_with_options_and_its_own_name(copy_of: Any, error_of: ErrorOf) -> None:
    words = ["--soup", "slerp", "--ingredients", "toys2", "toys0", "--soup-options", "fraction=0.25"]
    assert main.main([*words, "--soup-name", "pair", "--scores", "False"]) == 0
    card = read_card(copy_of.run / "models" / "pair.safetensors")
    assert card is not None and card.soup is not None
    assert {part.name.partition("_")[0] for part in card.soup.ingredients} == {"toys0", "toys2"}
    assert card.soup.options == {"fraction": 0.25}
    error_of()
    finetune = next((copy_of.run / "models").glob("toys1_*")).stem
    assert main.main(["--uniform-soup", "--soup-name", finetune]) == 2
    assert f"--soup-name {finetune}: a model that is no soup has this name" in error_of()
    assert main.main(["--uniform-soup", "--greedy-soup", "--soup-name", "both"]) == 2
    assert "one name for one soup" in error_of()
    assert main.main(["--uniform-soup", "--ingredients", "toys7"]) == 2
    assert "toys7: no such model" in error_of()
    assert main.main(["--soup", "gready"]) == 2
    assert "expected: one of" in error_of()


def test_a_start_that_is_not_the_models_own_is_refused(copy_of: Any, error_of: ErrorOf) -> None:
    other = next((copy_of.run / "models").glob("toys1_*"))
    assert main.main(["--soup", "wise_ft", "--start", str(copy_of.run / "models" / "toys_start.safetensors")]) == 0
    error_of()
    assert main.main(["--soup", "wise_ft", "--start", str(other)]) == 3
    assert "not the start that toys0" in error_of()
