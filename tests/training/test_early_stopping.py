"""When a fine-tune stops: the gain that early stopping waits for, and divergence with its learning rate."""

import numpy as np
import pytest

from soups.core.errors import TrainingDiverged
from soups.runtime.devices import Runtime
from soups.training.early_stopping import EXPLODED, EarlyStopping, check_logits, check_step, diverged
from soups.training.phases import Position
from soups.training.settings import TrainingSettings


@pytest.mark.parametrize(
    ("metric", "values", "gains"),
    [
        ("accuracy", [0.5, 0.5, 0.7, 0.6, 0.69, 0.8], [True, False, True, False, False, True]),
        ("log_loss", [0.5, 0.5, 0.7, 0.4, 0.41], [True, False, False, True, False]),
        ("calibration_error", [0.5, 0.1, float("nan"), 0.05], [True, True, False, True]),
    ],
)
def test_the_metric_decides_what_a_gain_is(metric: str, values: list[float], gains: list[bool]) -> None:
    watch, waited = EarlyStopping(metric), 0
    for value, gain in zip(values, gains, strict=True):
        scores = {"accuracy": 0.0, metric: value}
        assert watch.update(scores) is gain
        waited = 0 if gain else waited + 1
        assert watch.epochs_without_gain == waited
        assert (watch.best is scores) is gain


SETTINGS, RUNTIME = TrainingSettings(lr=3.0), Runtime(precision="fp32", threads=1)


def at(step: int, mean: float, first: float, *, is_last: bool = False) -> None:
    position = Position(epoch=1, step=step, loss=mean * 8 * step, first_loss=first)
    check_step(mean, 8 * step, is_last, position, SETTINGS, RUNTIME)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite(loss: float) -> None:
    with pytest.raises(TrainingDiverged, match=rf"lr 3: the loss became {loss} in epoch 2, step 4") as error:
        at(4, loss, 1.1)
    assert error.value.next_step == "lower the learning rate: --lr 0.3"


def test_an_exploding_loss_is_judged_by_the_mean_of_many_steps() -> None:
    at(3, 1e6, 2.0)  # A few steps may recover.
    at(20, EXPLODED * 2.0, 2.0)
    at(3, EXPLODED * 0.9, 0.01, is_last=True)  # A start that is almost perfect may be unlearned.
    for step, is_last in ((20, False), (3, True)):
        with pytest.raises(TrainingDiverged, match=r"the loss exploded in epoch 2, step .*: 102 on average, 2 at the"):
            at(step, EXPLODED * 2.04, 2.0, is_last=is_last)


def test_logits_that_are_not_finite() -> None:
    check_logits(np.zeros((2, 3)), 1, SETTINGS, RUNTIME)
    with pytest.raises(TrainingDiverged, match="lr 3: after epoch 1, the logits of validation images are not finite"):
        check_logits(np.array([[0, np.nan]]), 1, SETTINGS, RUNTIME)


def test_the_next_step_follows_where_the_rate_is_from() -> None:
    random, half = SETTINGS.model_copy(update={"hparams": "random"}), Runtime(precision="fp16", threads=1)
    listed = SETTINGS.model_copy(update={"hparams": "h.json"})
    assert diverged("x", random, RUNTIME).next_step.endswith("--lr-range LOW HIGH with a HIGH below 3")
    assert diverged("x", listed, half).next_step.endswith("in h.json; or use --precision fp32 in a new run")
