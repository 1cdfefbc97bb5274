"""Runs on joined folders, on a limited number of images and on a CSV of test images, through all later commands."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

import finetune
import inference
import main
import validation
from soups.checkpoints.card import read_card

PrintedText = Callable[[], str]


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, tiny_clip: Path) -> Iterator[Path]:
    """A run on two folders of toy images, the second without green ones, limited to twelve images of each set."""
    folder = tmp_path_factory.mktemp("joined")
    shutil.copytree(toy_data, folder / "one", ignore=shutil.ignore_patterns("shifts"))
    for number, name in enumerate(("blue", "red")):
        for person in range(3):
            image = toy_data / "test" / name / f"p4_{person}.png"
            target = folder / "two" / "train" / name / f"p{7 + person}_{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            # Another ending, so that it is another file than the test image.
            target.write_bytes(image.read_bytes() + bytes([number, person]))
    flags = ["--data-location", "one", "two", "--group-pattern", r"(p\d+)_", "--val-ratio", "0.5", "--limit", "12"]
    model = ["--model", f"local-dir:{tiny_clip}", "--precision", "fp32", "--threads", "1", "--epochs", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SOUPS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        assert finetune.main([*flags, *model, "--i", "0,1", "--batch-size", "8", "--allow-duplicates"]) == 0
        yield folder


@pytest.fixture(autouse=True)
def _there(joined: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(joined)


def test_a_run_is_named_after_its_folders_and_records_them(joined: Path) -> None:
    run = joined / "runs" / "one-two"
    recorded = yaml.safe_load((run / "settings.yaml").read_text())
    assert recorded["data_location"] == ["one", "two"] and recorded["limit"] == 12
    samples = pd.read_csv(run / "samples.csv", dtype=str)
    assert samples.groupby("split").size().to_dict() == {"test": 12, "train": 12, "val": 12}
    assert set(samples["source"]) == {"one", "two"}
    assert all((joined / image).is_file() for image in samples["image"])
    card = read_card(next((run / "models").glob("*_epochs*")))
    assert card is not None and card.classes == ("blue", "green", "red") and str(joined) not in card.model_dump_json()


def test_other_folders_are_refused_for_the_same_run(joined: Path, printed_text: PrintedText) -> None:
    assert (
        finetune.main(["--data-location", str(joined / "one"), str(joined / "two"), "--i", "0", "--epochs", "1"]) == 2
    )
    assert (
        "was trained with other settings" in printed_text()
    )  # The data is the same; only the fine-tune would be another.
    assert finetune.main(["--data-location", "one", "--name", "one-two"]) == 2
    error = printed_text()
    assert "--data-location: run 'one-two' was made with another value recorded: one two given: one" in error
    assert finetune.main(["--limit", "0", "--data-location", "one"]) == 2
    assert "greater than 0" in printed_text()


def test_every_later_command_finds_the_images(joined: Path, printed_text: PrintedText) -> None:
    assert main.main(["--eval-individual-models", "--uniform-soup"]) == 0
    assert validation.main(["--model-name", "one-two_uniform_soup"]) == 0
    assert inference.main(["--soft-voting"]) == 0
    printed_text()
    table = pd.read_csv(joined / "runs" / "one-two" / "output" / "soft_voting.csv")
    assert len(table) == 12 and set(table["image"].str.split("/").str[:2].map("/".join)) == {"one/test"}


def test_a_limited_run_fills_no_template_but_predicts_all_of_a_folder(joined: Path, printed_text: PrintedText) -> None:
    images = sorted(path.name for path in (joined / "one" / "test").rglob("*.png"))
    flat = joined / "flat"
    flat.mkdir()
    for path in (joined / "one" / "test").rglob("*.png"):
        shutil.copy(path, flat / f"{path.parent.name}_{path.name}")
    names = sorted((path.name for path in flat.iterdir()), reverse=True)
    template = pd.DataFrame({"id": names, "answer": "blue"})
    template.to_csv(joined / "one" / "sample_submission.csv", index=False)
    assert inference.main(["--soft-voting", "--output", "few.csv"]) == 0
    assert "uses at most 12 images of each set, so no template is filled" in printed_text()
    assert len(pd.read_csv("few.csv")) == 12
    assert inference.main(["--soft-voting", "--test-location", "flat", "--output", "all.csv"]) == 0
    assert pd.read_csv("all.csv")["id"].tolist() == names and len(names) == len(images)
    (joined / "one" / "sample_submission.csv").unlink()


def test_a_csv_of_paths_gives_predictions_in_its_order(joined: Path, printed_text: PrintedText) -> None:
    lists = joined / "lists"
    lists.mkdir()
    wanted = ["../one/test/red/p5_0.png", str(joined / "one/test/blue/p4_1.png"), "one/test/green/p4_2"]
    pd.DataFrame({"path": wanted, "label": ["red", "blue", "green"]}).to_csv(lists / "paths.csv", index=False)
    command = ["--soft-voting", "--test-location", "lists/paths.csv", "--output", "listed.csv"]
    assert inference.main([*command, "--image-column", "path"]) == 0
    assert "of 3 right" in printed_text()
    assert pd.read_csv("listed.csv")["image"].tolist() == wanted
    assert inference.main(command) == 0
    assert "paths.csv: the images are those of column 'path'" in printed_text()
    pd.DataFrame({"image": ["nowhere.png"]}).to_csv(lists / "paths.csv", index=False)
    assert inference.main(command) == 3
    assert "1 images are missing: nowhere.png (row 2)" in printed_text()
    assert inference.main(["--soft-voting", "--image-column", "path"]) == 2
    assert "--image-column: run 'one-two' was made with another value" in printed_text()


def test_allowed_duplicates_are_listed(joined: Path) -> None:
    samples = pd.read_csv(joined / "runs" / "one-two" / "samples.csv", dtype=str).set_index("image")["split"]
    found = pd.read_csv(joined / "runs" / "one-two" / "output" / "duplicates.csv", dtype=str)
    assert len(found) and set(found["kind"]) == {"pixels"}
    assert (samples[found["image_a"]].to_numpy() == found["split_a"]).all()
    assert (samples[found["image_b"]].to_numpy() == found["split_b"]).all()


def test_training_images_in_the_test_set_are_refused(joined: Path, tiny_clip: Path, printed_text: PrintedText) -> None:
    model = ["--model", f"local-dir:{tiny_clip}", "--precision", "fp32", "--threads", "1", "--epochs", "1", "--i", "0"]
    command = ["--data-location", "one", "two", "--name", "leaky", *model]
    assert finetune.main(command) == 3
    error = printed_text()
    assert "5 test images are training images too: two/train/" in error and "--allow-duplicates" in error
    assert not (joined / "runs" / "leaky").exists()
    # Their files differ, so who does not look at the pictures does not see it.
    assert finetune.main([*command, "--near-duplicates", "off"]) == 0
    assert not (joined / "runs" / "leaky" / "output" / "duplicates.csv").exists()
