"""Judges several candidates in parallel, one worker process each, with the verdicts of a single process."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from soups.pipeline.score.context import RunContext
from soups.pipeline.soup.judge import LazyJudge
from soups.pipeline.soup.pool import pool_of
from soups.recipes.shared.pool import Accept, Ingredient, Judge, Pool, Verdict
from soups.recipes.shared.running_mean import RunningSum
from soups.runtime.devices import limit_threads
from soups.runtime.launchers import WorkerPoolProtocol
from soups.runtime.workers import is_cancelled, wait_for_result, worker_number


@dataclass(frozen=True)
class WorkerEnv:
    """What a worker process judges with."""

    pool: Pool
    """Ingredients with the names and weights of the recipe's."""
    judge: Judge
    """Gives equal states the verdicts of the recipe's own judge."""


def worker_env_of_run(context: RunContext, batchnorm: str | None, number: int) -> WorkerEnv:
    """Return the environment of a worker for a run's pool; with several accelerators, each worker has its own.

    Args:
        context: the run.
        batchnorm: see `LazyJudge`.
        number: index of the worker, from 0.
    """
    context = replace(context, runtime=context.runtime.for_worker(number))
    limit_threads(context.runtime.threads)  # Candidates are averaged before the judge would set the thread count.
    pool, card = pool_of(context)
    return WorkerEnv(pool, LazyJudge(context, (pool, card), batchnorm))


@dataclass(frozen=True)
class ParallelJudge:
    """A judge that can also judge several candidates at once against the same incumbent."""

    single_judge: Judge
    """Gives single verdicts in this process; its other methods are available too."""
    workers: WorkerPoolProtocol
    """Processes prepared by `start_worker`."""
    width: int
    """Number of candidates at once, one process each."""

    def __call__(self, state: Any, accept: Accept | None = None) -> Verdict:
        """Return the verdict on these weights."""
        return self.single_judge(state, accept)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.single_judge, name)

    def judge_candidates(
        self, kept: Sequence[Ingredient], candidates: Sequence[Ingredient], accept: Accept
    ) -> Generator[Verdict]:
        """Yield the verdicts on the means of the kept ingredients and each candidate, in the order of the candidates.

        At most `width` candidates are in progress, none beyond those requested. A caller that stops iterating (because
        a candidate was accepted) cancels the rest.

        Args:
            kept: ingredients of the soup so far, in the order in which they joined (the order affects the last bit).
            candidates: ingredients to be judged beside them.
            accept: the acceptance rule.

        Raises:
            EnvironmentFailure: a worker process died.
            UserError: any error of judging the candidate.
        """
        names = tuple(ingredient.name for ingredient in kept)
        tasks = (_Task(names, candidate.name, accept) for candidate in candidates)
        under_way: deque[Future[Verdict | Exception]] = deque()
        try:
            while True:
                for task in islice(tasks, self.width - len(under_way)):
                    under_way.append(self.workers.submit(_judge_task, task))
                if not under_way:
                    return
                result = wait_for_result(under_way.popleft(), "judge fewer candidates at once")
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            self.workers.cancel_all()


@dataclass(frozen=True)
class _Task:
    kept: tuple[str, ...]
    candidate: str
    accept: Accept


@dataclass
class _WorkerState:
    """State that a worker process reuses between candidates."""

    make_env: Callable[[int], WorkerEnv]
    number: int
    env: WorkerEnv | None = None
    kept: tuple[str, ...] = ()
    total: RunningSum = field(default_factory=RunningSum)

    def judge(self, task: _Task) -> Verdict:
        if self.env is None:
            self.env = self.make_env(self.number)
        parts = {ingredient.name: ingredient for ingredient in self.env.pool.ingredients}
        if task.kept[: len(self.kept)] != self.kept:
            self.kept, self.total = (), RunningSum()
        for name in task.kept[len(self.kept) :]:
            self.total.add(parts[name])
        self.kept = task.kept
        try:
            state = self.total.mean_with(parts[task.candidate])
        except BaseException:
            self.kept, self.total = (), RunningSum()  # After an error the running sum is unusable.
            raise
        return self.env.judge(state, _CancellableAccept(task.accept))


@dataclass(frozen=True)
class _CancellableAccept:
    """Acceptance rule of a task that accepts nothing once the task is cancelled, so that the judge stops."""

    accept: Accept

    def allows(self, verdict: Verdict) -> bool:
        return not is_cancelled() and self.accept.allows(verdict)


_worker: _WorkerState | None = None
"""State of a worker process; None in the parent."""


def start_worker(make_env: Callable[[int], WorkerEnv]) -> None:
    """Initialise a worker process of a `ParallelJudge`.

    Args:
        make_env: importable by name, or a `partial` of such a function; called before the first task, with the index
            of the worker from 0.
    """
    global _worker
    _worker = _WorkerState(make_env, worker_number() or 0)


def _judge_task(task: _Task) -> Verdict:
    assert _worker is not None
    return _worker.judge(task)
