"""Worker processes that import their libraries while a new run is being created."""

from collections.abc import Iterator
from contextlib import contextmanager

from soups.pipeline.run.create import is_new
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train.plan import parse_indices
from soups.runtime.workers import WorkerPool


@contextmanager
def early_workers(settings: FinetuneSettings) -> Iterator[WorkerPool | None]:
    """Yields a pool of workers if they are certainly needed: several models of a new run; else None."""
    jobs, count = settings.runtime.jobs, len(parse_indices(settings.i)) if settings.i is not None else 1
    needed = isinstance(jobs, int) and min(jobs, count) > 1 and settings.launch.launcher == "local"
    if not needed or not is_new(settings):
        yield None
        return
    with WorkerPool(min(int(jobs), count)) as workers:
        for _ in range(workers.number):
            workers.submit(_load_libraries, settings.model.model)
        yield workers


def _load_libraries(model: str) -> None:
    """Import the libraries that take seconds to load before a first step."""
    import accelerate  # noqa: F401
    import timm  # noqa: F401

    if not model.startswith("timm:"):
        import open_clip  # noqa: F401
