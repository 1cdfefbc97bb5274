"""Spaces of a search: files and their errors, built-in spaces, and the settings of a trial."""

from pathlib import Path

import pytest

from soups.core.errors import UsageError
from soups.training.search_space import apply_trial, read_space
from soups.training.settings import RandomRanges, TrainingSettings

RANGES = RandomRanges()
EVERY_KIND = """\
lr: {low: 1e-6, high: 1e-3, log: true}
epochs: {low: 10, high: 25, step: 5}
patience: {choices: [null, 3]}
optimizer: {choices: [adamw, lamb]}
freeze-backbone: {choices: [true, false]}
class_weights: {choices: [null, auto, [red=2, blue=1]]}
mix: {low: 0, high: 0.5, otherwise: 0}
magnitude: {low: 0, high: 20}
operations: {low: 0, high: 2}
"""


def written(folder: Path, text: str) -> str:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_kind_of_hyperparameter(tmp_path: Path) -> None:
    space = read_space(written(tmp_path, EVERY_KIND), RANGES, ())
    assert (space["lr"].low, space["lr"].log, space["epochs"].step) == (1e-6, True, 5)
    assert isinstance(space["mix"].low, float) and isinstance(space["epochs"].low, int)
    drawn = {"lr": 1e-4, "epochs": 15, "patience": "null", "optimizer": "lamb", "freeze_backbone": "true"}
    drawn |= {"class_weights": '["red=2", "blue=1"]', "mix": 0.3, "mix_used": False, "magnitude": 9, "operations": 2}
    settings = apply_trial(space, drawn, TrainingSettings(wd=0.5))
    assert (settings.lr, settings.epochs, settings.patience, settings.optimizer) == (1e-4, 15, None, "lamb")
    assert settings.freeze_backbone is True and settings.class_weights == ("red=2", "blue=1")
    assert (settings.mix, settings.aug, settings.wd) == (0.0, "rand-m9-n2", 0.5)
    used = apply_trial(space, {**drawn, "mix_used": True, "operations": 0}, TrainingSettings())
    assert (used.mix, used.aug) == (0.3, None)


def test_built_in_spaces() -> None:
    original = read_space("original", RANGES, ())
    assert {name: (entry.low, entry.high) for name, entry in original.items()} == {
        "epochs": (10, 25),
        "batch_size": (16, 512),
        "lr": (1e-6, 1e-3),
        "random_seed": (34, 48),
    }
    assert (original["lr"].log, original["random_seed"].step) == (True, 2)
    assert {name: original[name] for name in read_space("basic", RANGES, ())} | {
        "random_seed": original["random_seed"]
    } == original
    starts = read_space("original", RANGES, ("start_from", "lr"))
    assert (starts["start_model"].low, starts["start_model"].high) == (0, 10) and "lr" not in starts
    paper = read_space("paper", RandomRanges(epochs_range=(2, 3)), ())
    assert (paper["epochs"].low, paper["epochs"].high, paper["mix"].otherwise) == (2, 3, 0.0)
    assert {"magnitude", "operations"} <= set(paper) and "magnitude" not in read_space("paper", RANGES, ("aug",))


def test_start_model_is_a_file_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model_3.pt").touch()
    space, base = read_space("original", RANGES, ("start_from",)), TrainingSettings(start_from=str(tmp_path))
    drawn = {"epochs": 10, "batch_size": 16, "lr": 1e-4, "random_seed": 34}
    settings = apply_trial(space, {**drawn, "start_model": 3}, base)
    assert settings.start_from == str(tmp_path / "model_3.pt") and settings.random_seed == 34
    with pytest.raises(UsageError, match="no start 4"):
        apply_trial(space, {**drawn, "start_model": 4}, base)


@pytest.mark.parametrize(
    ("text", "given", "words"),
    [
        ("learning_rate: {low: 1, high: 2}", (), ["space.yaml, line 1", "unknown hyperparameter 'learning_rate'"]),
        ("lr: {low: 1e-6, high: 1e-3}\nepoch: {low: 1, high: 2}", (), ["line 2", "did you mean 'epochs'?"]),
        ("lr: {low: a, high: 1}", (), ["line 1: lr", "number", "'a'"]),
        ("lr: {low: 1e-3, high: 1e-6}", (), ["line 1: lr", "low not above high"]),
        ("lr: {low: 1e-6, high: 1, step: 1e-3, log: true}", (), ["log or step"]),
        ("mix: {low: 0, high: 1, log: true}", (), ["low above zero"]),
        ("epochs: {low: 1, high: 10, step: 2}", (), ["whole number of steps"]),
        ("epochs: {low: 1.5, high: 10}", (), ["line 1: epochs", "integer", "1.5"]),
        ("epochs: {low: 1, hihg: 10}", (), ["unknown key 'hihg'", "did you mean 'high'?"]),
        ("epochs: {low: 1}", (), ["line 1: epochs", "{low: 10, high: 25"]),
        ("lr: 1e-3", (), ["line 1: lr", "{low: 1e-6", "'1e-3'"]),
        ("optimizer: {low: 1, high: 2}", (), ["for numbers", "choices"]),
        ("optimizer: {choices: []}", (), ["a list such as"]),
        ("sampler: {choices: [shuffled, balance]}", (), ["line 1: sampler", "balanced", "'balance'"]),
        ("optimizer: {choices: [adamw, adamw]}", (), ["each once"]),
        ("lr: {low: 1, high: 2}\nlr: {low: 1, high: 2}", (), ["line 2", "given twice"]),
        ("hparams: {choices: [fixed]}", (), ["cannot be searched"]),
        ("start_from: {choices: [a]}", (), ["cannot be searched", "start_model"]),
        ("start_model: {low: 0, high: 1}", (), ["--start-from DIR"]),
        ("magnitude: {low: 0, high: 1}", (), ["magnitude and operations together"]),
        ("lr: {low: 1, high: 2}", ("lr",), ["line 1", "lr is searched, but --lr fixes it"]),
        ("", (), ["no hyperparameters"]),
        ("- lr", (), ["space.yaml", "not a mapping of settings to values"]),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, given: tuple[str, ...], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        read_space(written(tmp_path, text), RANGES, given)
    message = " ".join(str(caught.value).split())
    assert all(word in message for word in words), message


def test_no_such_space() -> None:
    with pytest.raises(UsageError, match="did you mean 'paper'"):
        read_space("papers", RANGES, ())
    with pytest.raises(UsageError, match="flags fix all"):
        read_space("original", RANGES, ("epochs", "batch_size", "lr", "random_seed"))


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    space = read_space(written(tmp_path, "freeze_backbone: {choices: [true, false]}"), RANGES, ())
    with pytest.raises(UsageError, match="leave lp_epochs out"):
        apply_trial(space, {"freeze_backbone": "true"}, TrainingSettings(lp_epochs=2))
