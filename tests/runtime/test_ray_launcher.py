"""The Ray launcher without a cluster; tests/pipeline/end_to_end/test_ray.py starts one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from soups.runtime.devices import Runtime
from soups.runtime.ray_launcher import RayLauncher
from soups.runtime.workers import SECONDS_TO_SAVE


class StoppedRay:
    """The part of Ray's interface that `run_all` uses; a request to stop arrives during the first wait."""

    def __init__(self, request: BaseException) -> None:
        self.request, self.submitted, self.calls = request, list[int](), list[tuple[Any, ...]]()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, *arguments: Any, **options: Any) -> Any:
        if options:  # The options of a remote function.
            return lambda function: self
        self.submitted.append(len(self.submitted))
        return self.submitted[-1]

    def wait(self, references: list[int], *, num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        if self.calls:
            self.calls.append(("wait", tuple(references), num_returns, timeout))
            return references, []
        raise self.request

    def cancel(self, reference: int, *, force: bool) -> None:
        self.calls.append(("cancel", reference, force))


@pytest.mark.parametrize("request_", [KeyboardInterrupt(), SystemExit(143)])
def test_running_tasks_are_cancelled_and_awaited(monkeypatch: pytest.MonkeyPatch, request_: BaseException) -> None:
    ray = StoppedRay(request_)

    @contextmanager
    def connect(self: RayLauncher) -> Iterator[StoppedRay]:
        yield ray

    monkeypatch.setattr(RayLauncher, "_connect", connect)
    with pytest.raises(type(request_)):
        list(RayLauncher(None, Runtime(precision="fp32", threads=1)).run_all(abs, [1, 2, 3]))
    assert ray.submitted == [0, 1, 2]
    # Without force, a task can save its state first.
    assert ray.calls == [
        *(("cancel", reference, False) for reference in ray.submitted),
        ("wait", (0, 1, 2), 3, SECONDS_TO_SAVE),
    ]
