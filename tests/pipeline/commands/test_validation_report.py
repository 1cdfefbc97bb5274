"""The report of predictions: its text, table and figures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soups.core.labels import LabelSpace
from soups.pipeline.commands.validation_report import report_predictions
from soups.report.answers import LabelledPredictions


@pytest.mark.parametrize("with_images", [True, False])
def test_text_table_and_figures(with_images: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, groups = np.array([0, 0, 1, 1]), np.array(["a", "b", "c", "d"])
    predictions = LabelledPredictions(labels, np.array([0, 1, 1, 1]), groups, LabelSpace(("cat", "dog")))
    image = (lambda row: np.full((8, 8, 3), 60 * row, dtype=np.uint8)) if with_images else None
    report_predictions(predictions, "m", "images", (tmp_path / "out", tmp_path / "figures"), image, 5)
    printed = capsys.readouterr().out.splitlines()
    assert "m: 3 of 4 images right" in printed[0]
    figures = [tmp_path / "figures" / f"m_{kind}.png" for kind in ("confusion", "wrong")[: 1 + with_images]]
    assert printed[-len(figures) :] == [str(path) for path in figures]
    assert sorted((tmp_path / "figures").iterdir()) == figures
    table = pd.read_csv(tmp_path / "out" / "m_classes.csv")
    assert table[["of", "class", "support"]].values.tolist() == [["class", "cat", 2], ["class", "dog", 2]]
