"""Worker processes that load their libraries while a new run is made."""

from collections.abc import Iterator
from contextlib import contextmanager

from soups.pipeline.run.create import is_new
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train.plan import parse_indices
from soups.runtime.workers import WorkerPool


@contextmanager
def early_workers(settings: FinetuneSettings) -> Iterator[WorkerPool | None]:
    """Workers for the block, where they will surely be needed: several models are asked for, of a run that is new."""
    jobs, wanted = settings.runtime.jobs, len(parse_indices(settings.i)) if settings.i is not None else 1
    needed = isinstance(jobs, int) and min(jobs, wanted) > 1 and settings.launch.launcher == "local"
    if not needed or not is_new(settings):
        yield None
        return
    with WorkerPool(min(int(jobs), wanted)) as crew:
        for _ in range(crew.number):
            crew.submit(_load_libraries, settings.model.model)
        yield crew


def _load_libraries(model: str) -> None:
    """What takes seconds before a first step."""
    import accelerate  # noqa: F401
    import timm  # noqa: F401

    if not model.startswith("timm:"):
        import open_clip  # noqa: F401
