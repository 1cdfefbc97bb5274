"""Pools of checkpoints from other tools: from a folder of files to soups, reports and predictions."""

import argparse
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import open_clip
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file
from timm.utils import CheckpointSaver
from torch import nn

import finetune
import inference
import main
import soups
import validation
from soups.checkpoints.card import read_card
from soups.cli.flags import ParsedSettings
from soups.core.errors import UsageError
from soups.pipeline.compare.study import study
from soups.pipeline.run.run import existing_run
from soups.pipeline.settings.commands import RunSettings
from soups.pipeline.settings.tools import StudySettings

PrintedText = Callable[[], str]
CLASSES = ["blue", "green", "red"]


class ModelWrapper(nn.Module):
    """The original code's classifier."""

    def __init__(self, clip: nn.Module, seed: int) -> None:
        super().__init__()
        self.model = clip
        self.classification_head = nn.Linear(8, 3)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.add_(0.02 * torch.randn(tensor.shape, generator=generator))
            self.classification_head.weight.copy_(30 * torch.eye(3, 8) + torch.randn((3, 8), generator=generator))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Path:
    """Fine-tunes of the tiny CLIP in the formats of the original code, of open_clip's training and of other tools."""
    folder = tmp_path_factory.mktemp("elsewhere") / "my pool"
    folder.mkdir()
    states = []
    for seed in range(4):
        wrapper = ModelWrapper(open_clip.create_model(f"local-dir:{tiny_clip}"), seed)
        states.append({key: tensor.detach().contiguous() for key, tensor in wrapper.state_dict().items()})
    torch.save(states[0], folder / "model_0.pt")
    parallel = {f"module.{key}": tensor for key, tensor in states[1].items()}
    torch.save({"epoch": 2, "name": "x", "state_dict": parallel, "optimizer": {"state": {}}}, folder / "epoch_2.pt")
    tower = {key.replace("model.visual.", "visual."): t for key, t in states[2].items() if "visual" in key}
    head = {key.replace("classification_head", "head"): t for key, t in states[2].items() if "classification" in key}
    save_file(tower | head, folder / "model.safetensors")
    clip = open_clip.create_model(f"local-dir:{tiny_clip}").state_dict()
    torch.save({"epoch": 1, "state_dict": clip}, folder / "epoch_1.pt")
    (folder / "README.md").write_text("not a checkpoint")
    (folder / ".hidden.pt").write_bytes(b"")
    (folder / "older").mkdir()
    torch.save({"x": torch.ones(1)}, folder / "older" / "other.pt")
    return folder


@pytest.fixture
def toy_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def flags(pool: Path, toy_data: Path, tiny_clip: Path) -> list[str]:
    return [
        *("--model-location", str(pool), "--data-location", str(toy_data), "--model", f"local-dir:{tiny_clip}"),
        *("--group-pattern", r"(p\d+)_", "--val-ratio", "0.5", "--precision", "fp32", "--threads", "1"),
    ]


@pytest.fixture(scope="module")
def few_images(tmp_path_factory: pytest.TempPathFactory, toy_data: Path) -> Path:
    """Two validation images and one test image per class."""
    root = tmp_path_factory.mktemp("few") / "colours"
    for split, names in {"train": ["p0_0", "p1_0"], "val": ["p2_0", "p3_0"], "test": ["p4_0"]}.items():
        for colour in CLASSES:
            (root / split / colour).mkdir(parents=True)
            for name in names:
                source = toy_data / ("test" if split == "test" else "train") / colour / f"{name}.png"
                shutil.copy(source, root / split / colour)
    return root


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name not in ("figures", ".locks") and not path.name.endswith(".lock")
    }


def log(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "logs" / name).read_text().splitlines()]


def test_from_a_folder_of_mixed_files_to_predictions(
    toy_run: Path, pool: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(pool)
    assert main.main(["--greedy-soup", "--uniform-soup", *flags]) == 0
    stderr = capsys.readouterr().err
    assert "run my-pool: 4 checkpoints of" in stderr and "which are only read" in stderr
    assert (
        "18 images of train validate (--val-ratio 0.5): the scores flatter models that were trained on them" in stderr
    )
    assert contents(pool) == before
    run = toy_run / "runs" / "my-pool"
    assert [line["model_name"] for line in log(run, "individual_results.jsonl")] == [
        "epoch_1", "epoch_2", "model", "model_0",
    ]  # fmt: skip
    recorded = yaml.safe_load((run / "settings.yaml").read_text())
    assert (recorded["foreign_location"], recorded["ema"]) == (str(pool), False)
    assert recorded["class_order"] == CLASSES
    uniform = read_card(run / "models" / "my-pool_uniform_soup.safetensors")
    assert uniform is not None and uniform.soup is not None and uniform.classes == tuple(CLASSES)
    assert {part.name for part in uniform.soup.ingredients} == {"epoch_1", "epoch_2", "model", "model_0"}
    assert main.main(["--report", "--plot", "--name", "my-pool"]) == 0
    table = capsys.readouterr().out
    assert "greedy soup" in table and "best single" in table and "soft vote" in table
    assert inference.main(["--soft-voting"]) == 0  # The run last created.
    assert len(pd.read_csv(run / "output" / "soft_voting.csv")) == 18
    assert inference.main(["--model-name", "epoch_2", "--name", "my-pool"]) == 0
    assert len(pd.read_csv(run / "output" / "epoch_2.csv")) == 18
    assert validation.main(["--model-name", "model_0"]) == 0
    again = contents(toy_run)
    assert main.main(["--greedy-soup", "--uniform-soup", *flags]) == 0
    assert contents(toy_run) == again
    record = ["--config", str(run / "settings.yaml"), "--name", "again"]
    assert main.main([*record, "--uniform-soup"]) == 0
    repeated = toy_run / "runs" / "again" / "models" / "again_uniform_soup.safetensors"
    assert repeated.read_bytes() == (run / "models" / "my-pool_uniform_soup.safetensors").read_bytes()
    assert finetune.main(record) == 2
    assert contents(pool) == before


def test_scores_equal_those_of_the_library_s_own_model(
    toy_run: Path, pool: Path, flags: list[str], tiny_clip: Path, toy_data: Path
) -> None:
    assert main.main(["--eval-individual-models", "--name", "mine", *flags]) == 0
    run = existing_run(RunSettings(), "mine")
    assert run is not None
    samples = run.samples[run.samples["split"] == "test"]
    clip, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    state = torch.load(pool / "model_0.pt", weights_only=True)
    clip.load_state_dict({key.removeprefix("model."): t for key, t in state.items() if key.startswith("model.")})
    from PIL import Image

    pixels = torch.stack([transform(Image.open(toy_data / image)) for image in samples["image"]])
    with torch.no_grad():
        features = clip.eval().encode_image(pixels, normalize=True)
        logits = features @ state["classification_head.weight"].T + state["classification_head.bias"]
    right = [CLASSES[index] for index in logits.argmax(dim=1)] == samples["label"].to_numpy()
    line = next(line for line in log(run.folder, "individual_results.jsonl") if line["model_name"] == "model_0")
    assert line["test"] == pytest.approx(right.mean())
    notes = {line["model_name"]: " ".join(line["notes"]) for line in log(run.folder, "foreign.jsonl")}
    assert "text tower dropped" in notes["epoch_2"] and notes["model"] == "`visual.*` is the backbone"


def test_a_uniform_soup_is_the_mean_of_the_files(toy_run: Path, pool: Path, flags: list[str]) -> None:
    folder = toy_run / "two"
    folder.mkdir()
    shutil.copy(pool / "model_0.pt", folder)
    shutil.copy(pool / "model.safetensors", folder)
    assert main.main(["--uniform-soup", "--scores", "False", *flags, "--model-location", str(folder)]) == 0
    soup = soups.load(toy_run / "runs" / "two" / "models" / "two_uniform_soup.safetensors", device="cpu")
    first = torch.load(folder / "model_0.pt", weights_only=True)["model.visual.proj"]
    from safetensors.torch import load_file

    second = load_file(folder / "model.safetensors")["visual.proj"]
    expected = ((first.double() + second.double()) / 2).float()
    assert torch.equal(soup.classifier.state_dict()["backbone.proj"], expected)


def test_class_names_are_the_order_of_the_logits(
    toy_run: Path, pool: Path, flags: list[str], printed_text: PrintedText
) -> None:
    order = ["red", "blue", "green"]
    assert main.main(["--uniform-soup", "--name", "other", *flags, "--class-names", *order]) == 0
    card = read_card(toy_run / "runs" / "other" / "models" / "other_uniform_soup.safetensors")
    assert card is not None and card.classes == tuple(order)
    assert main.main(["--uniform-soup", "--name", "other", *flags, "--class-names", *CLASSES]) == 2
    assert "--class-names: run 'other' was made with another value" in printed_text()
    assert main.main(["--uniform-soup", "--name", "third", *flags, "--class-names", "red", "blue"]) == 2
    assert "--class-names does not fit the data expected: each of blue, green, red once" in printed_text()


def test_another_class_order_is_reported(
    toy_run: Path, flags: list[str], tiny_clip: Path, few_images: Path, printed_text: PrintedText
) -> None:
    """A head that predicts the colours well: no warning in its own class order, a warning in another one."""
    from PIL import Image

    clip, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    wrapper, order = ModelWrapper(clip, 0).eval(), ["red", "blue", "green"]
    paths = [(order.index(path.parent.name), path) for path in sorted(few_images.glob("val/*/*.png"))]
    with torch.no_grad():
        features = clip.encode_image(torch.stack([transform(Image.open(path)) for _, path in paths]), normalize=True)
        for index in range(3):
            wrapper.classification_head.weight[index] = features[[label == index for label, _ in paths]].mean(0)
        wrapper.classification_head.weight.sub_(wrapper.classification_head.weight.mean(0)).mul_(100)
    (toy_run / "pool").mkdir()
    torch.save(wrapper.state_dict(), toy_run / "pool" / "m.pt")
    flags = [*flags, "--model-location", "pool", "--data-location", str(few_images)]
    assert main.main(["--eval-individual-models", *flags]) == 0
    message = printed_text()
    assert "images are right, but 6 with the classes in another order" in message
    assert "--class-names red blue green" in message
    assert main.main(["--eval-individual-models", *flags, "--name", "right", "--class-names", *order]) == 0
    assert "another order" not in printed_text()


def test_without_a_text_tower_numbers_are_numbers(
    toy_run: Path, tmp_path: Path, toy_data: Path, flags: list[str], printed_text: PrintedText
) -> None:
    for number in range(11):
        shutil.copytree(toy_data / "train" / CLASSES[number % 3], tmp_path / "numbers" / str(number))
    assert main.main(["--uniform-soup", *flags, "--data-location", str(tmp_path / "numbers")]) == 3
    error = printed_text()
    assert "classes 0 to 10: assuming numeric order of the logits" in error
    assert "expected: 11 classes: 0, 1, 2, 3" in error and "(3, 8), so 3 classes" in error
    assert not (toy_run / "runs").exists() or not list((toy_run / "runs").glob("*/settings.yaml"))


@pytest.fixture
def timm_folder(tmp_path: Path) -> Iterator[Path]:
    """The output folder of timm's own training: two epochs, and links to the better one."""
    import timm
    from timm.utils import ModelEmaV3

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("test_vit", num_classes=3)
        averaged = ModelEmaV3(model)
        optimizer = torch.optim.SGD(model.parameters())
        folder = tmp_path / "output"
        folder.mkdir()
        saver = CheckpointSaver(
            model,
            optimizer,
            argparse.Namespace(model="test_vit", lr=0.1),
            model_ema=averaged,
            checkpoint_dir=str(folder),
            recovery_dir=str(folder),
        )
        for epoch in range(2):
            for tensor in model.parameters():
                tensor.data.add_(0.05 * torch.randn_like(tensor))
            for tensor in averaged.module.parameters():
                tensor.data.add_(0.05 * torch.randn_like(tensor))
            saver.save_checkpoint(epoch, float(epoch))
    yield folder


def test_timm_s_output_folder_with_plain_and_averaged_weights(
    toy_run: Path, timm_folder: Path, few_images: Path, printed_text: PrintedText
) -> None:
    assert (timm_folder / "last.pth.tar").exists()
    flags = ["--model-location", str(timm_folder), "--data-location", str(few_images), "--model", "timm:test_vit"]
    flags += ["--pretrained", "none", "--precision", "fp32", "--threads", "1"]
    scores = {}
    for name, more in (("plain", []), ("averaged", ["--ema"])):
        assert main.main(["--uniform-soup", "--name", name, *flags, *more]) == 0
        card = read_card(toy_run / "runs" / name / "models" / f"{name}_uniform_soup.safetensors")
        assert card is not None and card.soup is not None
        assert "validate (--val-ratio" not in printed_text()  # The data has its own val/.
        assert {part.name for part in card.soup.ingredients} == {"checkpoint-0.pth", "checkpoint-1.pth"}
        scores[name] = [
            line["metrics"]["test"]["log_loss"] for line in log(toy_run / "runs" / name, "individual_results.jsonl")
        ]
    assert scores["plain"] != scores["averaged"]
    assert inference.main(["--name", "plain", "--model-name", "checkpoint-0.pth.tar"]) == 0
    printed_text()
    assert main.main(["--uniform-soup", "--name", "plain", *flags, "--ema"]) == 2
    assert "--ema: run 'plain' was made with another value" in printed_text()
    assert finetune.main(["--name", "plain"]) == 2
    assert "pool of checkpoints from other tools: it cannot be trained in" in printed_text()
    with pytest.raises(UsageError, match="a study would have to train them again"):
        study(ParsedSettings(StudySettings(run=RunSettings(name="plain")), frozenset({"name"})))


# Problems of the folder


def other_shape(folder: Path) -> None:
    state = torch.load(folder / "model_0.pt", weights_only=True)
    torch.save(state | {"model.visual.proj": torch.ones(32, 9)}, folder / "wrong.pt")


WRONG: dict[str, tuple[Callable[[Path], Any], list[str], int, str]] = {
    "an optimizer": (
        lambda folder: torch.save({"state": {}, "param_groups": [{"lr": 1.0}]}, folder / "optimizer.bin"),
        [],
        3,
        "optimizer.bin: holds no weights expected: a state dict",
    ),
    "a foreign object": (
        lambda folder: torch.save(re.compile("x"), folder / "args.bin"),
        [],
        3,
        "args.bin: not a safe checkpoint found: it holds re._compile",
    ),
    "another shape": (
        other_shape,
        [],
        3,
        "wrong.pt: its weights do not fit custom expected: 'model.visual.proj' of shape (32, 8) found: shape (32, 9)",
    ),
    "a copy": (
        lambda folder: shutil.copy(folder / "model_0.pt", folder / "model_1.pt"),
        [],
        3,
        "pool/model_0.pt and pool/model_1.pt are the same model twice",
    ),
    "one name": (
        lambda folder: torch.save({"a": torch.ones(1)}, folder / "model.pt"),
        [],
        3,
        "model.safetensors: has the same name as model.pt",
    ),
    "cut short": (
        lambda folder: (folder / "short.pt").write_bytes((folder / "model_0.pt").read_bytes()[:2000]),
        [],
        3,
        "short.pt: not a whole checkpoint",
    ),
    "no averaged weights": (lambda folder: None, ["--ema"], 3, "holds no averaged weights (EMA)"),
    "another model": (
        lambda folder: None,
        ["--model", "ViT-S-32-alt"],
        3,
        "none of the 4 checkpoints fits; the first: ",
    ),
    "empty": (
        lambda folder: [path.unlink() for path in folder.glob("*.*") if path.is_file()],
        [],
        3,
        "no checkpoints in it",
    ),
    "nowhere": (shutil.rmtree, [], 3, "no such folder"),
    "no data": (lambda folder: None, ["--data-location", "none"], 3, "none"),
    "a metric": (lambda folder: None, ["--metric", "acuracy"], 2, "did you mean 'accuracy'?"),
}


@pytest.mark.parametrize("name", WRONG)
def test_problems_are_reported_before_any_work(
    toy_run: Path, pool: Path, flags: list[str], name: str, printed_text: PrintedText
) -> None:
    change, more, code, words = WRONG[name]
    shutil.copytree(pool, toy_run / "pool")
    change(toy_run / "pool")
    assert main.main(["--greedy-soup", *flags, "--model-location", "pool", *more]) == code
    assert words in printed_text()
    assert not list(toy_run.glob("runs/*/settings.yaml")) and not list(toy_run.glob("runs/*/logits"))


def test_a_wrong_file_that_was_added_later_is_refused(
    toy_run: Path, pool: Path, flags: list[str], printed_text: PrintedText
) -> None:
    shutil.copytree(pool, toy_run / "pool")
    flags = [*flags, "--model-location", "pool"]
    assert main.main(["--uniform-soup", *flags]) == 0
    other_shape(toy_run / "pool")
    printed_text()
    assert main.main(["--uniform-soup", "--name", "pool"]) == 3
    assert "wrong.pt: its weights do not fit" in printed_text()
    (toy_run / "pool").rename(toy_run / "moved")
    (toy_run / "moved" / "wrong.pt").unlink()
    assert main.main(["--report", "--name", "pool"]) == 3
    assert "pool: no such folder" in printed_text()
    assert main.main(["--report", "--name", "pool", "--model-location", "moved"]) == 0


def test_missing_and_meaningless_flags(toy_run: Path, pool: Path, toy_data: Path, printed_text: PrintedText) -> None:
    assert main.main(["--greedy-soup", "--model-location", str(pool)]) == 2
    assert "--data-location is missing expected: labelled images for validation" in printed_text()
    assert main.main(["--greedy-soup", "--ema"]) == 2
    assert "--ema: only for checkpoints from other tools" in printed_text()


def test_the_project_s_own_fine_tunes_in_another_folder(
    toy_run: Path, few_images: Path, tiny_clip: Path, printed_text: PrintedText
) -> None:
    own = [
        "--data-location",
        str(few_images),
        "--model",
        f"local-dir:{tiny_clip}",
        "--precision",
        "fp32",
        "--threads",
        "1",
    ]
    training = ["--epochs", "1", "--batch-size", "16"]
    assert finetune.main(["--name", "own", "--i", "0-1", *own, *training]) == 0
    shutil.copytree(toy_run / "runs" / "own" / "models", toy_run / "away")
    # Their run still exists and is used.
    assert main.main(["--uniform-soup", "--model-location", "away", "--data-location", str(few_images)]) == 0
    assert (toy_run / "away" / "own_uniform_soup.safetensors").exists()
    shutil.rmtree(toy_run / "runs")
    # Their run is gone: their cards describe them; the start and the soup are not members.
    assert main.main(["--uniform-soup", "--model-location", "away", "--data-location", str(few_images)]) == 0
    card = read_card(toy_run / "runs" / "away" / "models" / "away_uniform_soup.safetensors")
    assert card is not None and card.soup is not None and len(card.soup.ingredients) == 2
    assert "2 checkpoints of away" in printed_text()
