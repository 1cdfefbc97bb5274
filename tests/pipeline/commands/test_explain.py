"""`scripts/explain.py` and `validation.py --explain` on the toy run."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import soups
import validation
from soups.checkpoints.card import read_card
from tests.pipeline.commands.run_script import load_script

ToyRun = Any
QUICK = ["--count", "1", "--faithfulness", "3", "--steps", "4", "--random-maps", "1"]


@pytest.fixture(scope="module")
def explain() -> Any:
    return load_script("explain").main


def test_a_soup_beside_its_ingredients(toy_run_copy: ToyRun, explain: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(["--model-name", "toys_uniform_soup", *QUICK]) == 0
    printed = capsys.readouterr().out
    folder = toy_run_copy.run / "output" / "explain" / "toys_uniform_soup_relevance"
    assert "relevance of val images, from the attention of all blocks" in printed
    assert "random maps" in printed and "3 images." in printed and str(Path("toys_uniform_soup_relevance")) in printed
    table = pd.read_csv(folder / "maps.csv")
    soup = read_card(toy_run_copy.run / "models" / "toys_uniform_soup.safetensors")
    assert soup is not None and soup.soup is not None
    names = {part.name for part in soup.soup.ingredients}
    assert {"predicted"} | names <= set(table["role"]) <= {"predicted", "truth"} | names
    assert set(table["why"]) <= {"surest right", "surest wrong", "most uncertain"}
    assert (
        table.loc[table["why"] == "surest right", "truth"] == table.loc[table["why"] == "surest right", "predicted"]
    ).all()
    for _, line in table.iterrows():
        heat = np.load(folder / line["map"])
        assert heat.shape == (16, 16) and heat.dtype == np.float32 and 0 <= heat.min() <= heat.max() <= 1
        assert (folder / line["overlay"]).read_bytes().startswith(b"\x89PNG")
        # 20 × 18 pixels, whose middle 18 × 18 the model sees.
        assert line[["left", "top", "right", "bottom"]].tolist() == pytest.approx([1.125, 0, 19.125, 18], abs=1.2)
    faithful = pd.read_csv(folder / "faithfulness.csv").set_index("curve")
    images = pd.read_csv(folder / "faithfulness_images.csv")
    assert faithful.loc["deletion", "better_by"] == pytest.approx(
        (images["deletion_random"] - images["deletion"]).mean(), abs=1e-5
    )
    assert faithful.loc["insertion", "map"] == pytest.approx(images["insertion"].mean(), abs=1e-5)
    page = (folder / "page.html").read_text()
    assert "surest right: " in page and "data:image/jpeg;base64," in page and 'src="http' not in page
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert explain(["--model-name", "toys_uniform_soup", *QUICK]) == 0
    assert before == {path: path.read_bytes() for path in folder.iterdir()}  # The same command writes the same bytes.


def test_named_images_and_a_class(toy_run_copy: ToyRun, explain: Any, capsys: pytest.CaptureFixture[str]) -> None:
    image_file = toy_run_copy.data / "train" / "red" / "p0_0.png"
    Path("mine").mkdir()
    shutil.copy(image_file, "mine/any.png")
    flags = ["--method", "gradcam", "--target-layer", "conv1", "--class", "green", "--faithfulness", "0"]
    assert explain([str(image_file), "mine", "--model-name", "toys_start", *flags, "--output", "there"]) == 0
    assert "gradcam" not in capsys.readouterr().err
    table = pd.read_csv("there/maps.csv", keep_default_na=False)
    assert (
        table["truth"].tolist() == ["red", ""] and set(table["class"]) == {"green"} and set(table["role"]) == {"asked"}
    )
    assert not Path("there/faithfulness.csv").exists()
    model = soups.load(toy_run_copy.run / "models" / "toys_start.safetensors", device="cpu")
    chances = model.predict_proba([image_file])[0]
    assert table["probability"][0] == pytest.approx(chances[model.classes.index("green")], abs=0.01)


def test_missing_ingredients_are_logged(toy_run_copy: ToyRun, explain: Any, caplog: pytest.LogCaptureFixture) -> None:
    sorted((toy_run_copy.run / "models").glob("toys0_epochs*"))[0].unlink()
    assert explain(["--model-name", "toys_uniform_soup", "--count", "1", "--faithfulness", "0", "--output", "x"]) == 0
    assert "maps of an ingredient are left out" in caplog.text or not caplog.records
    roles = set(pd.read_csv("x/maps.csv")["role"])
    assert any(role.startswith("toys1") for role in roles) and not any(role.startswith("toys0") for role in roles)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--method", "gradcm"], 2, "did you mean 'gradcam'?"),
        (["--method", "cam"], 2, "one of gradcam, gradcam++, layercam, rollout, relevance"),
        (["--method", "gradcam", "--target-layer", "transformer.resblocks.0.ln_3"], 2, "transformer.resblocks.0.ln_1"),
        (["--method", "gradcam", "--target-layer", "transformer.resblocks.0"], 2, "choose an earlier layer"),
        (["--class", "rad"], 2, "did you mean 'red'?"),
        (["--on", "tset"], 2, "one of val, test"),
        (["nowhere.png"], 3, "nowhere.png: no such file"),
        (["--model-name", "toys77"], 2, "no such model"),
    ],
)
def test_invalid_requests(
    toy_run_copy: ToyRun, explain: Any, arguments: list[str], code: int, words: str, printed_text: Callable[[], str]
) -> None:
    before = toy_run_copy.contents()
    assert explain([*arguments, *QUICK]) == code
    assert words in printed_text()
    assert toy_run_copy.contents() == before


def test_wrong_images_with_maps(toy_run_copy: ToyRun, capsys: pytest.CaptureFixture[str]) -> None:
    picture = toy_run_copy.run / "figures" / "toys_start_wrong.png"
    heights = []
    for flags in ([], ["--explain"], ["--explain", "rollout"]):
        assert validation.main(["--model-name", "toys_start", "--images", "3", *flags]) == 0
        heights.append(int.from_bytes(picture.read_bytes()[20:24]))
    assert heights[0] < heights[2] < heights[1]  # Rollout has no map of its own for the true class.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--explain", "gradcm"], "did you mean 'gradcam'?"),
        (["--explain", "gradcam", "cam"], "--explain: several methods"),
        (["--explain", "--predictions", "a.csv", "--ground-truth", "b.csv"], "tables have no model to explain"),
    ],
)
def test_invalid_methods(
    toy_run_copy: ToyRun, arguments: list[str], words: str, printed_text: Callable[[], str]
) -> None:
    assert validation.main(arguments) == 2
    assert words in printed_text()
