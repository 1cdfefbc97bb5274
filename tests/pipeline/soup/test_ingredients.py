"""Selection of a soup's ingredients by name, and the start that they share."""

from pathlib import Path

import pytest
import torch

from soups.checkpoints.card import Card
from soups.checkpoints.checkpoint import write_checkpoint
from soups.core.errors import DataError, UsageError
from soups.pipeline.run.run import Run
from soups.pipeline.settings.commands import RunSettings
from soups.pipeline.soup.ingredients import find_start, select_ingredients
from tests.pipeline.small_run import CARD, recorded_settings

SETTINGS = RunSettings()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Twelve fine-tunes of one start, called p0_epochs2 … p11_epochs2."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "p"
    run = Run(folder, folder / "models", recorded_settings())
    start = write_checkpoint(run.start, {"w": torch.zeros(3)}, CARD)
    for index in range(12):
        write_model(run, index, start)
    return run


def cards_of(run: Run) -> dict[str, Card]:
    return {path.stem: card for path, card in run.finetunes().items()}


def write_model(run: Run, index: int, start: str) -> None:
    own = {"kind": "fine-tune", "start": start, "training": {"index": index, "epochs": 2}}
    path = run.models / f"p{index}_epochs2.safetensors"
    write_checkpoint(path, {"w": torch.full((3,), 1.0 + index)}, CARD.model_copy(update=own))


def test_all_or_the_named_models_in_the_order_of_the_run(run: Run) -> None:
    assert list(select_ingredients(run, SETTINGS, None)) == [f"p{index}_epochs2" for index in range(12)]
    path = str(run.models / "p7_epochs2.safetensors")
    for names in (["p7", "p1"], [path, "p1_epochs2"], ["p1_epochs2.safetensors", "p7_epochs2"]):
        assert list(select_ingredients(run, SETTINGS, names)) == ["p1_epochs2", "p7_epochs2"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["p1", "p1_epochs2"], "p1_epochs2 is named twice(?s:.*)p1 and p1_epochs2"),
        (["p12"], r"p12: no such model(?s:.*)p0_epochs2, p10_epochs2"),
        (["p_start"], "p_start: not one of the models that soups of run 'p' are made of"),
    ],
)
def test_a_name_of_no_model_of_the_run_is_refused(names: list[str], words: str, run: Run) -> None:
    with pytest.raises(UsageError, match=words):
        select_ingredients(run, SETTINGS, names)


def test_the_start_is_no_ingredient(run: Run) -> None:
    start = run.models / "p3_epochs2.safetensors"
    assert list(select_ingredients(run, SETTINGS, ["p3", "p4"], start)) == ["p4_epochs2"]
    with pytest.raises(UsageError, match="a soup of no ingredients"):
        select_ingredients(run, SETTINGS, ["p3"], start)


def test_the_start_is_the_file_that_the_cards_name(run: Run, tmp_path: Path) -> None:
    assert find_start(run, cards_of(run)) == (run.start, "")
    moved = run.start.rename(run.models / "q_start.safetensors")
    assert find_start(run, cards_of(run)) == (moved, "")
    gone = moved.rename(tmp_path / "begin.safetensors")
    assert find_start(run, cards_of(run)) == (None, "")
    assert find_start(run, cards_of(run), gone) == (gone, "")


def test_different_starts_are_named_and_a_given_one_is_refused(run: Run) -> None:
    write_model(run, 5, "ab" * 32)
    path, problem = find_start(run, cards_of(run))
    digest = run.sha256(run.start)
    assert path is None
    assert problem == f"p0_epochs2 from {digest[:12]}…, p5_epochs2 from abababababab… (SHA-256 of the start)"
    with pytest.raises(
        DataError, match=rf"--start .*: not the start that p5_epochs2 was(?s:.*){'ab' * 32}, as its card"
    ):
        find_start(run, cards_of(run), run.start)


def test_models_without_a_recorded_start_take_the_given_one(run: Run, tmp_path: Path) -> None:
    for index in range(12):
        write_model(run, index, "")
    assert find_start(run, cards_of(run)) == (None, "")
    assert find_start(run, cards_of(run), run.start) == (run.start, "")
    write_model(run, 4, "cd" * 32)
    assert find_start(run, cards_of(run)) == (None, "")
    with pytest.raises(DataError, match="not the start that p4_epochs2"):
        find_start(run, cards_of(run), run.start)
    with pytest.raises(DataError, match="no such file"):
        find_start(run, cards_of(run), tmp_path / "nothing.safetensors")
