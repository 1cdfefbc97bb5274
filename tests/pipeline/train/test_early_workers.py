"""Workers are started early only for several models of a new run on this machine."""

from pathlib import Path
from typing import Any

import pytest

from soups.pipeline.run.run_settings import record_run
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train import early_workers as module
from tests.pipeline.small_run import make_run


class FakePool:
    """Counts the work that is submitted, without processes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.submitted: list[Any] = []

    def submit(self, function: Any, item: Any) -> None:
        self.submitted.append(item)

    def __enter__(self) -> "FakePool":
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ({"i": "0-5", "runtime": {"jobs": 2}}, 2),
        ({"i": "0-1", "runtime": {"jobs": 3}}, 2),
        ({"i": "0", "runtime": {"jobs": 2}}, None),
        ({"runtime": {"jobs": 2}}, None),
        ({"i": "0-5"}, None),
        ({"i": "0-5", "runtime": {"jobs": 2}, "launch": {"launcher": "ray"}}, None),
        ({"i": "0-5", "runtime": {"jobs": 2}, "run": {"name": "p"}}, None),
    ],
    ids=["jobs", "models", "one model", "no index", "one job", "cluster", "existing run"],
)
def test_workers_only_where_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], number: int | None
) -> None:
    run = make_run(tmp_path)
    record_run(run.folder, run.recorded)
    monkeypatch.setattr(module, "WorkerPool", FakePool)
    place = {"name": "new", "runs_folder": str(tmp_path), **values.get("run", {})}
    settings = FinetuneSettings.model_validate({**values, "run": place, "model": {"model": "timm:resnet18"}})
    with module.early_workers(settings) as workers:
        assert (None if workers is None else workers.number) == number
        assert workers is None or workers.submitted == ["timm:resnet18"] * workers.number  # type: ignore[attr-defined]
