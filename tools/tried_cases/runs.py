"""What a run says before and after it works, and which run a command continues."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

from tools.tried_cases.case import Case, draw_classes

_POOL = (
    "--model baseline --image-size 32 --epochs 1 --batch-size 8 --threads 1 --precision fp32 --data-location data"
    " --name p --i 0-1 --hparams random --epochs-range 1 1 --lr-range"
)


def _make_classes(folder: Path) -> None:
    draw_classes(folder / "data", ("cat", "dog"))


def _check_nothing(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["data"]


def _check_pool(folder: Path) -> None:
    with (folder / "runs" / "p" / "output" / "pool.csv").open() as stream:
        assert [row["model"] for row in csv.DictReader(stream)] == ["p0_epochs1", "p1_epochs1"]


def _check_one_model(folder: Path) -> None:
    assert [path.name for path in sorted((folder / "runs" / "p" / "models").glob("p*"))] == [
        "p0_epochs1.safetensors",
        "p_start.safetensors",
    ]


def _make_one_high_rate(folder: Path) -> None:
    _make_classes(folder)
    (folder / "h.json").write_text('{"model_0": {"lr": 1e-3, "epochs": 1}, "model_1": {"lr": 1e30, "epochs": 1}}')


def _make_copy(folder: Path) -> None:
    _make_classes(folder)
    shutil.copytree(folder / "data", folder / "elsewhere" / "photos")


def _make_other_images(folder: Path) -> None:
    _make_classes(folder)
    draw_classes(folder / "elsewhere" / "data", ("cat", "dog"), start=500, count=10)


def _check_same_bytes(folder: Path) -> None:
    first, models = folder / "runs" / "p" / "models", {"q": ("p0", "p1"), "r": ("p1",)}
    for run, names in models.items():
        for name in names:
            copy = folder / "runs" / run / "models" / f"{name.replace('p', run)}_epochs1.safetensors"
            assert copy.read_bytes() == (first / f"{name}_epochs1.safetensors").read_bytes(), copy


def _check_runs(*names: str) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        assert sorted(path.parent.name for path in folder.glob("runs/*/settings.yaml")) == sorted(names)

    return check


CASES: list[Case] = [
    Case(
        "what would be trained",
        _make_classes,
        (f"finetune {_POOL} 1e-3 2e-3 --dry-run",),
        says=(
            *("run p in runs/p: 2 to train, 0 finished", "layout folder", "--val-ratio 0.2, --split-seed 0"),
            *("each image is a group by itself", "cat 8 2", "start baseline, random weights", "cpu, fp32, 1 job"),
            *("p0 0.00137", "p1 0.0018", "nothing was trained"),
        ),
        check=_check_nothing,
    ),
    Case(
        "one batch",
        _make_classes,
        (f"finetune {_POOL} 1e-3 2e-3 --dry-run one-batch",),
        says=("one batch of p0, nothing is saved: training step 8 images", "validation step 4 images"),
        check=_check_nothing,
    ),
    Case(
        "the pool after training",
        _make_classes,
        (f"finetune {_POOL} 1e-3 2e-3",),
        says=(
            "run p in runs/p: 2 to train",
            "model lr wd epochs augmentation mix smoothing val %",
            "p1_epochs1 0.0018 0.000562 1 crop",
            "next: python main.py --name p",
        ),
        check=_check_pool,
    ),
    Case(
        "a learning rate that is too high",
        _make_one_high_rate,
        ("finetune --data-location data --name p {TINY},1 --hparams h.json --optimizer sgd",),
        5,
        says=(
            *("1 of 2 fine-tunes failed; the others are kept p1: lr 1e+30: ", "lower the learning rate in h.json"),
            "p0_epochs1",
        ),
        check=_check_one_model,
    ),
    Case(
        "random weights with the learning rate of fine-tuning",
        _make_classes,
        ("finetune --data-location data {TINY} --lr 2e-5 --dry-run",),
        says=("the weights are random, but lr is at most 2e-05", "try --lr 1e-3, or a --model with published weights"),
    ),
    Case(
        "a run repeated from its settings file, and one model of it",
        _make_classes,
        (
            f"finetune {_POOL} 1e-3 2e-3",
            "finetune --config runs/p/settings.yaml --name q",
            "finetune --config runs/p/settings.yaml#p1 --name r",
        ),
        says=("run r in runs/r: 1 to train",),
        check=_check_same_bytes,
    ),
    Case(
        "no flag and no run",
        _make_classes,
        ("finetune",),
        2,
        says=("runs has no run yet", "next: python finetune.py --data-location DIR"),
        check=_check_nothing,
    ),
    Case(
        "no flag",
        _make_classes,
        ("finetune --data-location data {TINY}", "finetune"),
        says=("the last run is data, in runs/data", "python finetune.py --name data --i 1"),
    ),
    Case(
        "another data set without a name",
        _make_other_images,
        ("finetune --data-location data {TINY}", "finetune --data-location elsewhere/data {TINY}"),
        says=("run data-2: a new one, because the images of run data (the last one) are others",),
        check=_check_runs("data", "data-2"),
    ),
    Case(
        "a folder that was copied elsewhere",
        _make_copy,
        ("finetune --data-location data {TINY}", "finetune --data-location elsewhere/photos {TINY},1"),
        says=("run data: its images are read from elsewhere/photos from now on (recorded: data)", "1 finished"),
        check=_check_runs("data"),
    ),
    Case(
        "a data location that does not exist",
        _make_classes,
        ("finetune --data-location data {TINY}", "finetune --data-location nowhere --model timm:vit {TINY}"),
        3,
        says=("error: --data-location nowhere: no such folder",),
        check=_check_runs("data"),
    ),
    Case(
        "a run whose name ends in a digit",
        _make_classes,
        (
            "finetune --name data-2 --data-location data {TINY}",
            "export --model-name data-2_i0",
            "main --ingredients data-2_i0 --uniform-soup",
            "validation --model-name data-2_i0",
        ),
        says=("data-2_i0_epochs1",),
    ),
    Case(
        "a conflict with a recorded run",
        _make_classes,
        ("finetune --data-location data {TINY}", "finetune --data-location data {TINY} --batch-size 16"),
        2,
        says=("was trained with other settings recorded: --batch-size 8 given: --batch-size 16",),
        never=("expected: --batch-size",),
    ),
    Case(
        "a start that was refused",
        _make_classes,
        ("finetune --data-location data {TINY} --class-weights fish=2",),
        2,
        says=("fish",),
        check=_check_runs(),
    ),
]
