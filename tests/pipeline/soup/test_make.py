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

PrintedText = Callable[[], str]

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


def soup_of(toy_run: Any, recipe: str) -> Path:
    return toy_run.run / "models" / f"toys_{recipe}_soup.safetensors"


@pytest.mark.parametrize("decisions", [1, 2])
def test_a_killed_command_leaves_no_partial_soup_and_resumes_where_its_log_ends(
    toy_run_copy: Any, decisions: int
) -> None:
    expected = soup_of(toy_run_copy, "greedy").read_bytes()
    soup_of(toy_run_copy, "greedy").unlink()
    trace = toy_run_copy.run / "logs" / "greedy_soup.jsonl"
    whole = toy_run_copy.log("greedy_soup.jsonl")
    trace.unlink()
    files = set((toy_run_copy.run / "models").iterdir())
    root = Path(__file__).parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(decisions)],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=toy_run_copy.folder,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert set((toy_run_copy.run / "models").iterdir()) == files
    left = trace.read_text()
    assert len(left.splitlines()) == decisions < len(whole)
    assert main.main(["--greedy-soup"]) == 0
    assert trace.read_text().startswith(left)
    names = [line["candidate"] for line in toy_run_copy.log("greedy_soup.jsonl")]
    assert names == [line["candidate"] for line in whole]
    assert soup_of(toy_run_copy, "greedy").read_bytes() == expected


def test_parallel_judging_gives_the_same_bytes(toy_run_copy: Any) -> None:
    path, trace = soup_of(toy_run_copy, "greedy"), toy_run_copy.run / "logs" / "greedy_soup.jsonl"
    expected, decisions = path.read_bytes(), toy_run_copy.log("greedy_soup.jsonl")
    path.unlink()
    trace.unlink()
    assert main.main(["--greedy-soup", "--at-once", "2", "--scores", "False"]) == 0
    assert path.read_bytes() == expected
    logged = [(line["candidate"], line["accepted"]) for line in toy_run_copy.log("greedy_soup.jsonl")]
    assert logged == [(line["candidate"], line["accepted"]) for line in decisions] and len(logged) == 3


def overwrite_tensor(path: Path, key: str, value: float) -> None:
    card, state = read_card(path), read_state(path)
    assert card is not None
    state = {name: tensor.clone() for name, tensor in state.items()}
    state[key].view(-1)[-1] = value
    write_checkpoint(path, state, card)


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_a_model_that_is_not_finite_is_refused_before_anything_is_scored(
    toy_run_copy: Any, printed_text: PrintedText, value: float, word: str
) -> None:
    path = sorted((toy_run_copy.run / "models").glob("toys1_*"))[0]
    overwrite_tensor(path, "head.bias", value)
    before = toy_run_copy.log("individual_results.jsonl"), soup_of(toy_run_copy, "greedy").read_bytes()
    assert main.main(["--greedy-soup"]) == 3
    message = printed_text()
    assert path.stem in message and "'head.bias'" in message and word in message
    assert (toy_run_copy.log("individual_results.jsonl"), soup_of(toy_run_copy, "greedy").read_bytes()) == before


def test_a_model_of_another_shape_is_refused_by_its_header(toy_run_copy: Any, printed_text: PrintedText) -> None:
    path = sorted((toy_run_copy.run / "models").glob("toys1_*"))[0]
    card, state = read_card(path), dict(read_state(path))
    assert card is not None
    state["head.bias"] = torch.zeros(5)
    write_checkpoint(path, state, card)
    assert main.main(["--uniform-soup", "--scores", "False"]) == 3
    message = printed_text()
    assert path.stem in message and "'head.bias'" in message
    assert "(3,)" in message and "(5,)" in message


def test_a_uniform_soup_without_scores_opens_no_image(toy_run_copy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = read_state(soup_of(toy_run_copy, "uniform"))
    expected = {key: tensor.clone() for key, tensor in scored.items()}
    lines = toy_run_copy.log("soup_results.jsonl")
    soup_of(toy_run_copy, "uniform").unlink()
    (toy_run_copy.run / "samples.csv").unlink()
    assert main.main(["--uniform-soup", "--scores", "False"]) == 0
    state = read_state(soup_of(toy_run_copy, "uniform"))
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert toy_run_copy.log("soup_results.jsonl") == lines
    straight = soup_of(toy_run_copy, "uniform").read_bytes()
    soup_of(toy_run_copy, "uniform").unlink()
    monkeypatch.setattr(soup, "can_average_files", lambda files: False)
    assert main.main(["--uniform-soup", "--scores", "False"]) == 0
    assert soup_of(toy_run_copy, "uniform").read_bytes() == straight  # With torch and without.


def test_a_budget_ends_the_recipe_and_the_card_lists_untried_models(
    toy_run_copy: Any, printed_text: PrintedText
) -> None:
    assert main.main(["--greedy-soup", "--budget-evaluations", "1", "--scores", "False"]) == 0
    assert "1 more was not tried, the budget was spent" in printed_text()
    card = read_card(soup_of(toy_run_copy, "greedy"))
    assert card is not None and card.soup is not None
    assert len(card.soup.options["untried"]) == 1 and card.soup.request["evaluations"] == 1
    assert main.main(["--soup", "pruned", "--budget-minutes", "0", "--scores", "False"]) == 0
    card = read_card(soup_of(toy_run_copy, "pruned"))
    assert card is not None and card.soup is not None and len(card.soup.ingredients) == 3


def test_greedy_uses_the_acceptance_rule_of_the_flag(toy_run_copy: Any, printed_text: PrintedText) -> None:
    assert main.main(["--greedy-soup", "--accept", "significant", "--significance", "0.01", "--scores", "False"]) == 0
    card = read_card(soup_of(toy_run_copy, "greedy"))
    assert card is not None and card.soup is not None
    assert card.soup.request["accept"] == "significant" and card.soup.request["level"] == 0.01
    last = json.loads((toy_run_copy.run / "logs" / "greedy_soup.jsonl").read_text().splitlines()[-1])
    assert {"gained", "lost", "why"} <= last.keys()
    printed_text()
    assert main.main(["--greedy-soup", "--accept", "sometimes"]) == 2
    assert "sometimes" in printed_text()


def test_a_soup_of_named_models_with_options_and_its_own_name(toy_run_copy: Any, printed_text: PrintedText) -> None:
    words = ["--soup", "slerp", "--ingredients", "toys2", "toys0", "--soup-options", "fraction=0.25"]
    assert main.main([*words, "--soup-name", "pair", "--scores", "False"]) == 0
    card = read_card(toy_run_copy.run / "models" / "pair.safetensors")
    assert card is not None and card.soup is not None
    assert {part.name.partition("_")[0] for part in card.soup.ingredients} == {"toys0", "toys2"}
    assert card.soup.options == {"fraction": 0.25}
    printed_text()
    finetune = next((toy_run_copy.run / "models").glob("toys1_*")).stem
    assert main.main(["--uniform-soup", "--soup-name", finetune]) == 2
    assert f"--soup-name {finetune}: a model that is no soup has this name" in printed_text()
    assert main.main(["--uniform-soup", "--greedy-soup", "--soup-name", "both"]) == 2
    assert "one name for one soup" in printed_text()
    assert main.main(["--uniform-soup", "--ingredients", "toys7"]) == 2
    assert "toys7: no such model" in printed_text()
    assert main.main(["--soup", "gready"]) == 2
    assert "expected: one of" in printed_text()


def test_a_start_that_is_not_the_models_own_is_refused(toy_run_copy: Any, printed_text: PrintedText) -> None:
    other = next((toy_run_copy.run / "models").glob("toys1_*"))
    assert main.main(["--soup", "wise_ft", "--start", str(toy_run_copy.run / "models" / "toys_start.safetensors")]) == 0
    printed_text()
    assert main.main(["--soup", "wise_ft", "--start", str(other)]) == 3
    assert "not the start that toys0" in printed_text()


def test_a_greedy_soup_of_the_former_rule_is_kept_and_rebuilt_until_a_rule_is_named(
    toy_run_copy: Any, printed_text: PrintedText
) -> None:
    path = soup_of(toy_run_copy, "greedy")
    card, state = read_card(path), dict(read_state(path))
    assert card is not None and card.soup is not None
    former = {**card.soup.request, "accept": "equal", "ties": "accept"}  # As versions before 0.2 wrote it.
    record = card.soup.model_copy(update={"request": former, "options": {"accept": "equal", "ties": "accept"}})
    write_checkpoint(path, state, card.model_copy(update={"soup": record}))
    before = path.read_bytes()
    assert main.main(["--greedy-soup", "--scores", "False"]) == 0
    said = printed_text()
    assert "was made by --accept equal and is kept; add --accept ties-by-log-loss" in said
    assert main.main(["--greedy-soup", "--accept", "equal", "--scores", "False"]) == 0
    assert "made already" in printed_text()
    assert main.main(["--rebuild", path.stem]) == 0
    assert "identical" in printed_text() and path.read_bytes() == before
    assert main.main(["--greedy-soup", "--accept", "ties-by-log-loss", "--scores", "False"]) == 0
    said = printed_text()
    assert "made again by --accept ties-by-log-loss, another rule than that of the former soup, --accept equal" in said
    card = read_card(path)
    assert card is not None and card.soup is not None and card.soup.request["accept"] == "ties-by-log-loss"
    assert "ties" not in card.soup.request
    assert main.main(["--greedy-soup", "--scores", "False"]) == 0
    assert "made already" in printed_text()


def test_a_soup_of_another_recipe_under_the_same_name_is_made_again(toy_run_copy: Any) -> None:
    for recipe in ("uniform", "greedy"):
        assert main.main(["--soup", recipe, "--soup-name", "mine", "--scores", "False"]) == 0
        card = read_card(toy_run_copy.run / "models" / "mine.safetensors")
        assert card is not None and card.soup is not None and card.soup.recipe == recipe
