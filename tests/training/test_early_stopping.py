import pytest

from soups.training.early_stopping import EarlyStopping


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
