"""The command `find_label_errors`: proposals of corrections from a head or from the pool."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.data.people import PHOTOS
from tests.pipeline.commands.run_script import run
from tools.tried_cases.case import draw

PrintedText = Callable[[], str]
FactorRuns = Any


@pytest.fixture
def planted(tmp_path: Path, faces: Path) -> Path:
    """The faces, with wrong genders in two people's folder names and two photos of one person swapped."""
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
    # The planted errors are known: the table shows how many are found, and the accuracy on groups without errors.
    wrong = [(image, "gender") for person in ("000004", "000011") for image in _images_of(planted, person)]
    wrong += [
        (image, "mask") for image in _images_of(planted, "000008") if Path(image).stem in ("normal", "incorrect_mask")
    ]
    pd.DataFrame(wrong, columns=["image", "factor"]).to_csv("planted.csv", index=False)
    assert run("find_label_errors", *data, "--planted", "planted.csv") == 0
    table_rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert table_rows["gender"][:3] == ["2", "4", "2"]
    in_the_first_rows = table[table["factor"] == "mask"]["match"].head(4).str.contains("/000008_").sum()
    assert table_rows["mask"][:3] == ["2", "4", str(in_the_first_rows)]
    assert table_rows["age"][:3] == ["0", "0", "0"] and table_rows["together"][:2] == ["4", "8"]
    assert float(table_rows["gender"][3]) > 90
    genders = table[table["factor"] == "gender"]
    assert genders["match"].tolist()[:2] in (["000004", "000011"], ["000011", "000004"])
    masks = table[table["factor"] == "mask"]
    planted_masks = masks[masks["match"].str.contains("/000008_")]
    assert len(planted_masks) == 2 and planted_masks["match"].iloc[0] == masks["match"].iloc[0]
    page = Path("corrections.html").read_text()
    assert page.count("<img ") == len(table) and "given: " in page and "suggested: " in page
    # After wrong proposals are deleted, --relabel reads the file.
    corrections = pd.concat([genders.head(2), planted_masks])
    corrections.to_csv("corrections.csv", index=False)
    assert finetune.main([*data, "--name", "mended", "--relabel", "corrections.csv", "--epochs", "1"]) == 0
    samples = pd.read_csv("runs/mended/samples.csv", dtype=str, keep_default_na=False)
    assert (samples["corrected_by"] != "").sum() == 16
    assert len(PHOTOS) * 2 + 2 == 16


def test_the_pool_uses_only_validation_images(factor_runs_copy: FactorRuns, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_invalid_requests(
    factor_runs_copy: FactorRuns, arguments: list[str], code: int, words: str, printed_text: PrintedText
) -> None:
    assert run("find_label_errors", *arguments) == code
    assert words in printed_text()


def test_without_cleanlab_the_command_says_what_to_install(
    factor_runs_copy: FactorRuns, printed_text: PrintedText, hide_packages: Callable[..., None]
) -> None:
    hide_packages("cleanlab")
    assert run("find_label_errors", "--name", "mask") == 4
    assert "soups find-label-errors needs cleanlab, which is not installed next: pip install cleanlab" in printed_text()


def test_nothing_is_proposed_where_the_head_only_guesses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(40):  # The pictures say nothing about their labels.
        draw(tmp_path / "data" / ("cat", "dog")[number % 2] / f"{number}.png", 0, seed=number)
    flags = ["--data-location", "data", "--model", "baseline", "--image-size", "32", "--threads", "1"]
    assert run("find_label_errors", *flags, "--precision", "fp32") == 0
    out = capsys.readouterr().out
    assert "the head is not surely better than chance for label: nothing is proposed there" in out
    assert pd.read_csv("corrections.csv").empty and "0 proposals" in Path("corrections.html").read_text()


def test_table_and_page_hold_the_same_proposals(
    planted: Path,
    tiny_clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--data-location", str(planted), "--model", f"local-dir:{tiny_clip}", "--threads", "1"]
    assert run("find_label_errors", *flags, "--precision", "fp32", "--images", "2") == 0
    table = pd.read_csv("corrections.csv", dtype=str)
    assert table["factor"].value_counts().max() == 2
    assert Path("corrections.html").read_text().count("<img ") == len(table)
    assert "proposals are written; --images" in capsys.readouterr().err
