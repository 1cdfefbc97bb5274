"""The comparison table of the toy run: rows, log lines, and the vote of a soup with the best single model."""

import csv
import json
from typing import Any

import numpy as np
import pytest

import main
from soups.checkpoints.card import read_card
from soups.cli import flags as cli
from soups.pipeline.compare.rows import rows_of_run
from soups.pipeline.score.context import RunContext, open_context
from soups.pipeline.score.evaluate import pool_paths
from soups.pipeline.score.throughput import images_per_second
from soups.pipeline.settings.commands import MainSettings

ToyRun = Any


def context() -> RunContext:
    parsed: cli.ParsedSettings[MainSettings] = cli.ParsedSettings(MainSettings(), frozenset())
    return open_context(parsed.settings, parsed.names)


def rows_of(toy_run: ToyRun) -> dict[str, dict[str, str]]:
    with (toy_run.run / "output" / "comparison.csv").open(encoding="utf-8") as stream:
        return {row["name"].partition(" (")[0]: row for row in csv.DictReader(stream)}


def test_rows_and_columns(toy_run: ToyRun) -> None:
    rows = rows_of(toy_run)
    expected = ["best single", "uniform soup", "greedy soup", "soft vote", "hard vote", "ensemble selection"]
    assert list(rows)[:6] == expected and set(list(rows)[6:]) <= {"greedy soup + best single"}
    for name in ("best single", "uniform soup", "greedy soup", "soft vote", "ensemble selection"):
        assert 0 <= float(rows[name]["val_crossfitted"]) <= 1
    assert rows["hard vote"]["val_crossfitted"] == ""
    assert rows["hard vote"]["test_calibration_error"] == "" != rows["soft vote"]["test_calibration_error"]
    speed = float(rows["best single"]["images_per_second"])
    assert float(rows["greedy soup"]["images_per_second"]) == speed > 0
    assert float(rows["soft vote"]["images_per_second"]) == pytest.approx(speed / 3)


def test_the_ensemble_selection_is_logged_with_its_counts(toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy_run.folder)
    line = next(line for line in toy_run.log("soup_results.jsonl") if line["model_name"] == "ensemble_selection")
    paths = {context().run.sha256(path): path for path in pool_paths(context().run).values()}
    weights = np.array(line["counts"]) / sum(line["counts"])
    members = [context().probabilities(paths[sha256], ["test"])["test"] for sha256 in line["members"]]
    table = np.tensordot(weights, np.stack(members), axes=1)
    assert line["test"] == pytest.approx((table.argmax(axis=1) == context().labels("test")).mean())
    assert min(line["counts"]) > 0 and line["metric"] == "accuracy"
    assert int(rows_of(toy_run)["ensemble selection"]["models"]) == len(line["members"])


def test_a_soup_votes_with_the_best_single_model_where_they_differ(toy_run_copy: ToyRun) -> None:
    models = toy_run_copy.run / "models"
    uniform = (models / "toys_uniform_soup.safetensors").read_bytes()
    (models / "toys_greedy_soup.safetensors").write_bytes(uniform)  # A soup of three, whatever greedy took.
    found = rows_of_run(context())
    both = found[-1]
    assert both.name == "greedy soup + best single" and both.models == 2
    single, soup = found[0].outputs["test"], found[2].outputs["test"]
    np.testing.assert_allclose(both.outputs["test"], (single + soup) / 2)
    line = json.loads((toy_run_copy.run / "logs" / "soup_results.jsonl").read_text().splitlines()[-1])
    assert line["model_name"] == "greedy_soup_and_best_single" and len(line["members"]) == 2


def test_a_soup_that_is_the_best_single_model_does_not_vote_with_it(toy_run_copy: ToyRun) -> None:
    """One fine-tune alone: its greedy soup is itself."""
    models = toy_run_copy.run / "models"
    for path in list(models.glob("*_epochs*"))[1:]:
        path.unlink()
    assert main.main(["--greedy-soup"]) == 0
    card = read_card(models / "toys_greedy_soup.safetensors")
    assert card is not None and card.soup is not None and len(card.soup.ingredients) == 1
    assert [one.name.partition(" (")[0] for one in rows_of_run(context())][-1] == "ensemble selection"


def test_the_speed_is_measured_once_for_each_condition(toy_run_copy: ToyRun) -> None:
    path = next(iter(pool_paths(context().run).values()))
    speed, log = images_per_second(context(), path), toy_run_copy.run / "logs" / "speed.jsonl"
    assert speed > 0 and images_per_second(context(), path) == speed and len(toy_run_copy.log("speed.jsonl")) == 1
    line = toy_run_copy.log("speed.jsonl")[0]
    log.write_text(json.dumps({**line, "threads": 99, "images_per_second": -1.0}) + "\n")
    assert images_per_second(context(), path) > 0 and len(toy_run_copy.log("speed.jsonl")) == 2
