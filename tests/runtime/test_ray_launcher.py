"""What `OnRay` does without a cluster; tests/pipeline/end_to_end/test_ray.py has one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from soups.runtime.devices import Runtime
from soups.runtime.ray_launcher import OnRay
from soups.runtime.workers import SECONDS_TO_SAVE


class AskedToLeave:
    """As much of Ray as a list of work needs, where somebody asks to leave while the work is waited for."""

    def __init__(self, request: BaseException) -> None:
        self.request, self.given, self.calls = request, list[int](), list[tuple[Any, ...]]()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, *words: Any, **options: Any) -> Any:
        if options:  # Of a kind of task.
            return lambda function: self
        self.given.append(len(self.given))
        return self.given[-1]

    def wait(self, references: list[int], *, num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        if self.calls:
            self.calls.append(("wait", tuple(references), num_returns, timeout))
            return references, []
        raise self.request

    def cancel(self, reference: int, *, force: bool) -> None:
        self.calls.append(("cancel", reference, force))


@pytest.mark.parametrize("request_", [KeyboardInterrupt(), SystemExit(143)])
def test_pieces_under_way_are_asked_to_leave_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, request_: BaseException
) -> None:
    ray = AskedToLeave(request_)

    @contextmanager
    def connected(self: OnRay) -> Iterator[AskedToLeave]:
        yield ray

    monkeypatch.setattr(OnRay, "_connected", connected)
    with pytest.raises(type(request_)):
        list(OnRay(None, Runtime(precision="fp32", threads=1)).run_all(abs, [1, 2, 3]))
    assert ray.given == [0, 1, 2]
    # Without force, a piece may save its state first.
    assert ray.calls == [
        *(("cancel", reference, False) for reference in ray.given),
        ("wait", (0, 1, 2), 3, SECONDS_TO_SAVE),
    ]
