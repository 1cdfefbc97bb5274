"""Logits of a run's models: stored logits are reused, and models of other classes are refused."""

from pathlib import Path

import numpy as np
import pytest

from soups.core.errors import DataError
from soups.core.labels import LabelSpace
from soups.pipeline.score import context as module
from soups.pipeline.score.context import RunContext, class_positions
from tests.pipeline.small_run import CARD, make_context, make_run


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, list[str]]]:
    """Model and sets of each computation; the logits of a set are its row numbers."""
    calls: list[tuple[str, list[str]]] = []

    def compute(self: RunContext, path: Path, set_names: list[str], space: LabelSpace) -> dict[str, np.ndarray]:
        calls.append((path.stem, list(set_names)))
        return {name: np.arange(4, dtype=np.float32).reshape(2, 2) for name in set_names}

    monkeypatch.setattr(RunContext, "_compute_logits", compute)
    monkeypatch.setattr(module, "image_paths", lambda rows, run: tuple(tmp_path / image for image in rows["image"]))
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    return calls


def test_logits_are_computed_once(tmp_path: Path, computed: list[tuple[str, list[str]]]) -> None:
    context = make_context(make_run(tmp_path))
    path = context.run.models / "p1_epochs2.safetensors"
    for _ in range(2):
        assert context.logits(path, ["val"])["val"].tolist() == [[0, 1], [2, 3]]
    assert computed == [("p1_epochs2", ["val"])]
    assert set(context.logits(path, ["val", "train"])) == {"val", "train"}
    assert computed[1:] == [("p1_epochs2", ["train"])]


def test_labels_and_groups_of_a_set(tmp_path: Path) -> None:
    context = make_context(make_run(tmp_path))
    assert context.labels("val").tolist() == [1, 0] and context.groups("val").tolist() == ["3", "4"]
    assert context.labelled_sets() == ["val"]


def test_class_positions_follow_the_card() -> None:
    space, path = LabelSpace(("dog", "cat")), Path("m.safetensors")
    assert class_positions(CARD, space, path, "p").tolist() == [1, 0]
    with pytest.raises(DataError, match=r"m\.safetensors: a model of other classes\n.*owl(?s:.*)classes of run 'p'"):
        class_positions(CARD, LabelSpace(("dog", "owl")), path, "p")
