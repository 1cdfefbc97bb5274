"""Scripts that are there to look: the first batch, disagreement, and labels that are probably wrong."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import inference
from tests.data.people import PHOTOS

ErrorOf = Callable[[], str]
Studio = Any


def script(name: str) -> ModuleType:
    """A file of scripts/ as a module."""
    path = Path(__file__).parents[3] / "scripts" / f"{name}.py"
    specification = importlib.util.spec_from_file_location(f"script_{name}", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def run(name: str, *arguments: str) -> int:
    return script(name).main(list(arguments))


# The first batch


def test_what_the_model_will_see_before_there_is_a_run(
    faces: Path, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--data-location", str(faces), "--model", f"local-dir:{tiny_clip}", "--images", "12"]
    sizes = set()
    for options in ([], ["--augmentation", "custom"], ["--old-aug"], ["--augmentation", "none"]):
        assert run("show_batch", *data, *options) == 0
        assert capsys.readouterr().out.strip() == "batch.png"
        sizes.add(Path("batch.png").read_bytes())
    assert len(sizes) == 4 and not Path("runs").exists()
    with Image.open("batch.png") as picture:
        assert picture.width > 600 and picture.height > 600


def test_the_first_batch_of_a_run(there: Studio, capsys: pytest.CaptureFixture[str], error_of: ErrorOf) -> None:
    assert run("show_batch", "--name", "mask", "--images", "8", "--output", "shown.png") == 0
    assert Path("shown.png").stat().st_size > 5000
    error_of()
    assert run("show_batch", "--name", "mask", "--target", "age") == 2
    assert "--target: run 'mask' was made with another value" in error_of()
    assert run("show_batch", "--name", "mask", "--augmentation", "baze") == 2
    assert "unknown augmentation 'baze'" in error_of()


# Disagreement


def test_models_that_disagree(copied: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("disagreement", "--name", "mask", "--members", "mask0_epochs6", "mask1_epochs6", "mask_start") == 0
    told = capsys.readouterr().out.split()
    assert told == ["runs/mask/output/disagreement.csv", "runs/mask/output/disagreement.html"]
    table = pd.read_csv(told[0])
    members = ["mask0_epochs6", "mask1_epochs6", "mask_start"]
    factors = ["divided_mask", "divided_gender", "divided_age"]
    assert list(table.columns) == ["image", "divided", *factors, "votes", "truth", *members]
    assert (np.diff(table["divided"]) <= 1e-9).all() and table["divided"].iloc[0] > 0
    alike = table[members].nunique(axis=1) == 1
    assert (alike == (table["divided"] == 0)).all()
    page = Path(told[1]).read_text()
    for heading in ("All factors together", "Mask", "Gender", "Age"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("<img ") == page.count("<figure>") > 4


def test_tables_that_disagree(copied: Studio, faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mask0_epochs6", "mask_start"):
        assert inference.main(["--name", "mask", "--model-name", name, "--output", f"{name}.csv"]) == 0
    capsys.readouterr()
    command = ["--members", "mask0_epochs6.csv", "mask_start.csv"]
    assert run("disagreement", "--name", "mask", *command) == 0
    table = pd.read_csv("runs/mask/output/disagreement.csv")
    assert len(table) == 30 and table["mask0_epochs6"].str.count("/").eq(2).all() and "truth" not in table
    assert "data:image/jpeg" in Path("runs/mask/output/disagreement.html").read_text()
    shutil.rmtree("runs")
    assert run("disagreement", *command, "--output", "d.csv", "--test-location", str(faces / "eval")) == 0
    assert "data:image/jpeg" in Path("d.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--members", "mask0_epochs6"], 2, "two or more members"),
        (["--members", "mask0_epochs6", "a.csv"], 2, "models alone or CSVs alone"),
        (["--members", "mask0_epochs6", "age0_epochs6"], 3, "a model of other classes"),
        (["--on", "tset"], 2, "one of val, test"),
        (["--members", "a.csv", "b.csv"], 3, "a.csv: no such file"),
    ],
)
def test_who_cannot_disagree(copied: Studio, arguments: list[str], code: int, words: str, error_of: ErrorOf) -> None:
    assert run("disagreement", "--name", "mask", *arguments) == code
    assert words in error_of()
    assert not Path("runs/mask/output/disagreement.csv").exists()


# Wrong labels


@pytest.fixture
def planted(tmp_path: Path, faces: Path) -> Path:
    """The faces, two of them called by the wrong gender and one with two photos exchanged."""
    root = tmp_path / "planted"
    shutil.copytree(faces / "train", root)
    images = root / "images"
    for person in ("000004", "000011"):
        (folder,) = images.glob(f"{person}_*")
        number, gender, race, age = folder.name.split("_")
        folder.rename(images / "_".join([number, {"male": "female", "female": "male"}[gender], race, age]))
    (folder,) = images.glob("000008_*")
    (folder / "normal.png").rename(folder / "x")
    (folder / "incorrect_mask.png").rename(folder / "normal.png")
    (folder / "x").rename(folder / "incorrect_mask.png")
    return root


def _images_of(root: Path, person: str) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.glob(f"images/{person}_*/*"))


def test_proposals_find_planted_errors_and_mend_them(
    planted: Path, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import finetune

    monkeypatch.chdir(tmp_path)
    data = ["--data-location", str(planted), "--model", f"local-dir:{tiny_clip}"]
    data += ["--threads", "1", "--precision", "fp32"]
    assert run("find_label_errors", *data) == 0
    out = capsys.readouterr().out
    assert out.split()[-2:] == ["corrections.csv", "corrections.html"] and not Path("runs").exists()
    assert all(f"\n{factor} " in out for factor in ("mask", "gender", "age"))
    table = pd.read_csv("corrections.csv", dtype=str)
    assert list(table.columns[:4]) == ["match", "factor", "from", "to"]
    assert table["doubt"].astype(float).is_monotonic_decreasing
    # What was planted is known: how much of it is found is told, and by whom it is right where nothing is wrong.
    wrong = [(image, "gender") for person in ("000004", "000011") for image in _images_of(planted, person)]
    wrong += [
        (image, "mask") for image in _images_of(planted, "000008") if Path(image).stem in ("normal", "incorrect_mask")
    ]
    pd.DataFrame(wrong, columns=["image", "factor"]).to_csv("planted.csv", index=False)
    assert run("find_label_errors", *data, "--planted", "planted.csv") == 0
    told = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert told["gender"][:3] == ["2", "4", "2"]
    in_the_first_rows = table[table["factor"] == "mask"]["match"].head(4).str.contains("/000008_").sum()
    assert told["mask"][:3] == ["2", "4", str(in_the_first_rows)]
    assert told["age"][:3] == ["0", "0", "0"] and told["together"][:2] == ["4", "8"]
    assert float(told["gender"][3]) > 90
    genders = table[table["factor"] == "gender"]
    assert genders["match"].tolist()[:2] in (["000004", "000011"], ["000011", "000004"])
    masks = table[table["factor"] == "mask"]
    planted_masks = masks[masks["match"].str.contains("/000008_")]
    assert len(planted_masks) == 2 and planted_masks["match"].iloc[0] == masks["match"].iloc[0]
    page = Path("corrections.html").read_text()
    assert page.count("<img ") == len(table) and "given: " in page and "suggested: " in page
    # Edited down to what is right, it is what --relabel reads.
    kept = pd.concat([genders.head(2), planted_masks])
    kept.to_csv("corrections.csv", index=False)
    assert finetune.main([*data, "--name", "mended", "--relabel", "corrections.csv", "--epochs", "1"]) == 0
    samples = pd.read_csv("runs/mended/samples.csv", dtype=str, keep_default_na=False)
    assert (samples["corrected_by"] != "").sum() == 16
    assert len(PHOTOS) * 2 + 2 == 16


def test_of_the_pool_validation_images_alone_count(copied: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("find_label_errors", "--name", "mask", "--from-pool", "--output", "pool.csv") == 0
    samples = pd.read_csv("runs/mask/samples.csv", dtype=str)
    validation = set(samples.loc[samples["split"] == "val", "image"])
    groups = set(samples.loc[samples["split"] == "val", "group"])
    assert f" {len(validation)} " in capsys.readouterr().out
    assert set(pd.read_csv("pool.csv", dtype=str)["match"]) <= validation | groups
    assert run("find_label_errors", "--name", "age", "--from-pool", "--factors", "age", "--output", "age.csv") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--name", "mask", "--factors", "ages"], 2, "did you mean 'age'"),
        (["--name", "age", "--from-pool"], 2, "--factors mask: run 'age' was not trained on it"),
        (["--name", "mask", "--model-name", "nothing"], 2, "nothing: no such model"),
        (["--name", "mask", "--folds", "1"], 2, "folds"),
        (["--name", "new"], 2, "--data-location is missing"),
        (["--name", "mask", "--planted", "none.csv"], 3, "none.csv: no such file"),
        (["--name", "mask", "--planted", "runs/mask/samples.csv"], 3, "no column 'factor'"),
    ],
)
def test_what_cannot_be_looked_for(
    copied: Studio, arguments: list[str], code: int, words: str, error_of: ErrorOf
) -> None:
    assert run("find_label_errors", *arguments) == code
    assert words in error_of()
