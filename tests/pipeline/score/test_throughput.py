"""Prediction speeds are measured once for the same conditions."""

from dataclasses import replace
from pathlib import Path

import pytest

from soups.pipeline.score import throughput
from tests.pipeline.small_run import make_context, make_run


def test_a_speed_is_measured_once_per_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([10.0, 20.0])
    monkeypatch.setattr(throughput, "_measure_speed", lambda context, path: next(measured))
    context = make_context(make_run(tmp_path))
    first, second = list(context.run.finetunes())[:2]
    assert [throughput.images_per_second(context, path) for path in (first, second)] == [10.0, 10.0]
    other = replace(context, runtime=context.runtime.model_copy(update={"threads": 2}))
    assert throughput.images_per_second(other, first) == 20.0
    assert throughput.images_per_second(context, first) == 10.0
