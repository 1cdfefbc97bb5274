import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from soups.core.errors import DataError, EnvironmentFailure, UsageError
from soups.training.hyperparameters import draw_hyperparameters, hyperparameters
from soups.training.settings import RandomRanges, TrainingSettings


def test_fixed_hyperparameters_are_those_of_the_flags() -> None:
    settings = TrainingSettings(lr=0.5)
    assert hyperparameters(settings, RandomRanges(), 3) == settings


def test_rows_are_drawn_from_seed_and_index_alone() -> None:
    rows = [draw_hyperparameters(RandomRanges(), 7, index) for index in range(20)]
    assert rows == [draw_hyperparameters(RandomRanges(), 7, index) for index in range(20)]
    assert len({row["lr"] for row in rows}) == 20
    assert rows[0] != draw_hyperparameters(RandomRanges(), 8, 0)


def test_rows_cover_the_ranges_of_the_paper() -> None:
    rows = [draw_hyperparameters(RandomRanges(), 0, index) for index in range(400)]
    assert all(1e-6 <= row["lr"] <= 1e-4 and 1e-4 <= row["wd"] <= 10**-0.2 for row in rows)
    # Log-uniform: each decade of the learning rate gets its share.
    assert 0.4 < sum(row["lr"] < 1e-5 for row in rows) / len(rows) < 0.6
    assert {row["epochs"] for row in rows} == set(range(4, 17))
    for key, most in (("mix", 0.9), ("smoothing", 0.25)):
        values = [row[key] for row in rows]
        assert 0.4 < values.count(0.0) / len(values) < 0.6
        assert 0.9 * most < max(values) <= most
    augmentations = [row["aug"] for row in rows]
    assert 0.25 < augmentations.count(None) / len(rows) < 0.42
    named = [aug.split("-") for aug in augmentations if aug]
    assert {int(parts[1][1:]) for parts in named} == set(range(21))
    assert {int(parts[2][1:]) for parts in named} == {1, 2}


def test_changing_one_range_leaves_the_other_columns_alone() -> None:
    one, other = (
        draw_hyperparameters(RandomRanges(), 0, 0),
        draw_hyperparameters(RandomRanges(operations_range=(0, 0), epochs_range=(3, 3)), 0, 0),
    )
    assert other.pop("epochs") == 3 and other.pop("aug") is None
    assert other == {key: one[key] for key in other}


def test_the_file_format_of_the_original_code(tmp_path: Path) -> None:
    path = tmp_path / "hparams.json"
    entries = {
        "model_0": {"info": "LP initialization"},
        "model_7": {"aug": "rand-m7-n1", "wd": 0.01, "lr": 3e-5, "mix": 0.2, "smoothing": 0.1, "epochs": 6},
        "model_8": {"aug": None, "wd": None, "lr": 1e-5, "mix": None, "smoothing": None, "epochs": 4},
        "model_9": {"lr": -1},
    }
    path.write_text(json.dumps(entries))
    settings = TrainingSettings(hparams=str(path), batch_size=32)
    assert hyperparameters(settings, RandomRanges(), 0) is None
    seven = hyperparameters(settings, RandomRanges(), 7)
    assert seven is not None
    assert (seven.aug, seven.wd, seven.lr, seven.mix, seven.smoothing, seven.epochs) == (
        *("rand-m7-n1", 0.01, 3e-5),
        *(0.2, 0.1, 6),
    )
    assert seven.batch_size == 32
    eight = hyperparameters(settings, RandomRanges(), 8)
    assert eight is not None and (eight.aug, eight.wd, eight.mix) == (None, 0.0, 0.0)
    with pytest.raises(DataError, match="model_9: lr"):
        hyperparameters(settings, RandomRanges(), 9)
    with pytest.raises(DataError, match="no entry model_10"):
        hyperparameters(settings, RandomRanges(), 10)


def test_invalid_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        hyperparameters(TrainingSettings(hparams=str(tmp_path / "none.json")), RandomRanges(), 0)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match="invalid JSON"):
        hyperparameters(TrainingSettings(hparams=str(tmp_path / "broken.json")), RandomRanges(), 0)


def test_the_draw_is_log_uniform_at_both_ends() -> None:
    values = [draw_hyperparameters(RandomRanges(lr_range=(1e-4, 1e-4)), 0, index)["lr"] for index in range(3)]
    assert all(math.isclose(value, 1e-4) for value in values)


# Short forms, written in full


def chosen(**values: object) -> TrainingSettings:
    found = hyperparameters(TrainingSettings.model_validate(values), RandomRanges(), 0)
    assert found is not None
    return found


def test_old_aug_is_oversampling_with_flips() -> None:
    assert chosen(old_aug=True) == TrainingSettings(oversample=("age=old=2",), oversample_augment="flip")
    assert chosen(old_aug=False) == TrainingSettings()


def test_defaults_that_depend_on_other_settings() -> None:
    assert chosen(loss_fn="LabelSmoothingLoss").smoothing == 0.1
    assert chosen(loss_fn="LabelSmoothingLoss", smoothing=0.3).smoothing == 0.3
    assert chosen(augmentation="randaugment").aug == "rand-m9-n2"
    assert chosen(augmentation="randaugment", aug="rand-m3-n1").aug == "rand-m3-n1"


def test_augmentation_none_removes_a_drawn_randaugment() -> None:
    settings = TrainingSettings(hparams="random", augmentation="none")
    drawn = [hyperparameters(settings, RandomRanges(operations_range=(1, 2)), index) for index in range(5)]
    assert {each.aug for each in drawn if each is not None} == {None}
    kept = hyperparameters(TrainingSettings(hparams="random"), RandomRanges(operations_range=(1, 2)), 0)
    assert kept is not None and kept.aug is not None


def test_an_augmentation_s_file_becomes_its_content(tmp_path: Path) -> None:
    import albumentations

    path = tmp_path / "own.yaml"
    albumentations.save(albumentations.Compose([albumentations.HorizontalFlip(p=0.5)]), path, data_format="yaml")
    settings = chosen(augmentation=str(path), oversample=["a=2"], oversample_augment=str(path))
    assert settings.augmentation == settings.oversample_augment and "HorizontalFlip" in settings.augmentation
    path.unlink()
    assert hyperparameters(settings, RandomRanges(), 0) == settings


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match=r"unknown loss 'FocalLos'(?s:.*)did you mean 'FocalLoss'"):
        chosen(loss_fn="FocalLos")
    with pytest.raises(UsageError, match=r"unknown augmentation 'baze'"):
        chosen(augmentation="baze")
    with pytest.raises(UsageError, match=r"unknown augmentation 'flop'"):
        chosen(oversample=["a=2"], oversample_augment="flop")
    with pytest.raises(UsageError, match=r"unknown scheduler 'linar'(?s:.*)did you mean 'linear'"):
        chosen(scheduler="linar")


@pytest.mark.parametrize("values", [{"decay_rate": 0.5}, {"decay_epochs": 2}])
def test_a_decay_that_no_scheduler_uses(values: dict[str, object]) -> None:
    name = next(iter(values)).replace("_", "-")
    with pytest.raises(
        UsageError, match=rf"--{name}: the scheduler 'cosine' does not use it\n.*step, exponential or plat"
    ):
        chosen(**values)
    assert chosen(scheduler="plateau", **values) == TrainingSettings.model_validate({"scheduler": "plateau", **values})


def test_a_loss_whose_package_is_missing_is_refused_before_training(hide_packages: Callable[..., None]) -> None:
    hide_packages("pytorch_metric_learning")
    with pytest.raises(EnvironmentFailure, match=r"--loss-fn ContrastiveLoss needs pytorch-metric-learning(?s:.*)pip"):
        chosen(loss_fn="ContrastiveLoss")
    assert chosen(loss_fn="FocalLoss").loss_fn == "FocalLoss"
