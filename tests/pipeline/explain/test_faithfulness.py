"""The faithfulness table, its files, and curves measured image by image."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from soups.core.preprocessing import Preprocessing
from soups.explain.faithfulness import Curves
from soups.explain.settings import MapSettings
from soups.pipeline.explain import faithfulness
from soups.pipeline.explain.faithfulness import measure_curves, print_faithfulness


def test_curves_of_several_images_are_joined_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def curves_of_one(classifier: Any, inputs: torch.Tensor, classes: Any, maps: Any, **options: int) -> Curves:
        seeds.append(options["seed"])
        value = float(inputs.mean()) + 10 * int(classes[0])
        return Curves(*(np.full(shape, value) for shape in ((1, 3), (1, 3), (1, 2, 3), (1, 2, 3))))

    monkeypatch.setattr(faithfulness, "coarse_maps", lambda *arguments: None)
    monkeypatch.setattr(faithfulness, "deletion_and_insertion", curves_of_one)
    card = SimpleNamespace(preprocessing=Preprocessing(size=2, mean=(0, 0, 0), std=(1, 1, 1)))
    model: Any = SimpleNamespace(classifier=torch.nn.Linear(1, 1), card=card, order=np.array([1, 0]))
    images = SimpleNamespace(take=lambda rows: np.full((1, 2, 2, 3), 51 * rows[0], dtype=np.uint8))
    predicted: Any = SimpleNamespace(images=images)
    found = measure_curves(model, predicted, np.array([2, 0]), np.array([0, 1]), MapSettings())
    assert found.deletion[:, 0] == pytest.approx([10.4, 0.0]) and found.random_insertion.shape == (2, 2, 3)
    assert seeds == [0, 1]


def test_gains_are_against_random_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = np.linspace(1, 0, 5)
    own, random = np.stack([steps**2, steps**2]), np.stack([[steps], [steps]])
    curves = Curves(own, 1 - own, random, 1 - random)
    predicted: Any = SimpleNamespace(
        images=SimpleNamespace(paths=[Path("a.png"), Path("b.png"), Path("c.png")]), groups=np.array(["1", "2", "3"])
    )
    files = print_faithfulness(curves, predicted, np.array([0, 2]), tmp_path, "heading")
    text = capsys.readouterr().out
    assert " ".join(text.splitlines()[0].split()) == "area under the curve map random maps better by 95% interval"
    assert "2 images. Deletion: " in text and "+0.156" in text
    table = pd.read_csv(tmp_path / "faithfulness.csv").set_index("curve")
    for kind, area in (("deletion", 0.34375), ("insertion", 0.65625)):
        line = table.loc[kind]
        assert line["map"] == pytest.approx(area) and line["random"] == 0.5 and line["images"] == 2
        assert line["better_by"] == line["low"] == line["high"] == pytest.approx(0.15625)
    assert pd.read_csv(tmp_path / "faithfulness_images.csv")["image"].tolist() == ["a.png", "c.png"]
    assert [file.name for file in files] == ["faithfulness.csv", "faithfulness_images.csv", "faithfulness.png"]
    assert all(file.stat().st_size > 0 for file in files)
