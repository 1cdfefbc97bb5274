"""The warning for a foreign pool whose logits have another class order than the one recorded."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from soups.core.labels import LabelSpace
from soups.pipeline.score import class_order

LABELS = np.repeat(np.arange(3), 4)


def context_of(predicted: np.ndarray, foreign: bool = True) -> Any:
    """A context whose best model predicts the given classes."""
    recorded = SimpleNamespace(foreign=SimpleNamespace() if foreign else None)
    run = SimpleNamespace(recorded=recorded, space=LabelSpace(("a", "b", "c")))
    return SimpleNamespace(
        run=run, labels=lambda name: LABELS, probabilities=lambda path, names: {"val": np.eye(3)[predicted]}
    )


@pytest.fixture(autouse=True)
def best_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_order, "best_single", lambda context: Path("m.pt"))


def test_another_order_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class_order.warn_if_misordered(context_of((LABELS + 1) % 3))
    assert "m: 0 of 12 validation images are right, but 12 with the classes in another order" in caplog.text
    assert "--class-names c a b" in caplog.text


@pytest.mark.parametrize(
    ("predicted", "foreign"),
    [(LABELS, True), ((LABELS + 1) % 3, False), (np.zeros_like(LABELS), True)],
    ids=["right", "own", "one class"],
)
def test_no_warning_without_reason(caplog: pytest.LogCaptureFixture, predicted: np.ndarray, foreign: bool) -> None:
    class_order.warn_if_misordered(context_of(predicted, foreign))
    assert not caplog.text
