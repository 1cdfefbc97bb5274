"""Candidates judged several at once, each in a process of its own, with the verdicts that one process would give."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from soups.pipeline.score.context import RunContext
from soups.pipeline.soup.judge import LazyJudge
from soups.pipeline.soup.pool import pool_of
from soups.recipes.shared.pool import Accept, Ingredient, Judge, Pool, Verdict
from soups.recipes.shared.running_mean import RunningSum
from soups.runtime.devices import limit_threads
from soups.runtime.launchers import Launcher, Local
from soups.runtime.workers import is_cancelled, wait_for_result, worker_number


@dataclass(frozen=True)
class WorkerEnv:
    """What a worker process judges with."""

    pool: Pool
    """Ingredients of the same names and weights as the recipe's."""
    judge: Judge
    """Gives equal states the verdicts that the recipe's own judge gives them."""


def worker_env_of_run(context: RunContext, batchnorm: str | None, number: int) -> WorkerEnv:
    """A seat at a run's own pool; where there are several accelerators, each worker has one.

    Args:
        context: the run.
        batchnorm: see `LazyJudge`.
        number: of the worker, from 0.
    """
    context = replace(context, runtime=context.runtime.of_worker(number))
    limit_threads(context.runtime.threads)  # Candidates are averaged before the judge would do it.
    pool, card = pool_of(context)
    return WorkerEnv(pool, LazyJudge(context, (pool, card), batchnorm))


class ParallelJudge:
    """A judge that can also weigh several candidates at once against the same incumbent; to be used in a `with` block.

    Args:
        alone: gives single verdicts, in this process; what else it can do, this one can.
        open_seat: importable by name (or a `partial` of such); called in each worker, with its number from 0, when its
            first work comes in.
        width: how many candidates at once, each in a process.
        launcher: where; None: here.
    """

    def __init__(
        self, alone: Judge, open_seat: Callable[[int], WorkerEnv], width: int, launcher: Launcher | None = None
    ) -> None:
        self.alone, self.open_seat, self.width = alone, open_seat, width
        self.launcher = launcher or Local(width)
        self._stack = ExitStack()

    def __enter__(self) -> "ParallelJudge":
        crew = self.launcher.crew(self.width, _sit_down, (self.open_seat,))
        self._workers = self._stack.enter_context(crew)
        return self

    def __exit__(self, *problem: Any) -> None:
        self._stack.__exit__(*problem)

    def __call__(self, state: Any, accept: Accept | None = None) -> Verdict:
        """The verdict on these weights."""
        return self.alone(state, accept)

    def __getattr__(self, name: str) -> Any:
        if name == "alone":  # Not set yet.
            raise AttributeError(name)
        return getattr(self.alone, name)

    def judge_candidates(
        self, kept: Sequence[Ingredient], candidates: Sequence[Ingredient], accept: Accept
    ) -> Generator[Verdict]:
        """The verdicts on the means of those kept and each candidate, in the order of the candidates.

        At most `width` candidates are under way, and none beyond what was asked for before: whoever stops asking
        (because one was accepted) calls off those that are judged in vain.

        Args:
            kept: ingredients of the soup so far, in the order in which they joined (it shows in the last bit).
            candidates: to be judged beside them.
            accept: what a candidate has to reach.

        Raises:
            EnvironmentFailure: a worker process died.
            UserError: whatever judging this candidate raises.
        """
        names = tuple(ingredient.name for ingredient in kept)
        tasks = (_Task(names, candidate.name, accept) for candidate in candidates)
        under_way: deque[Future[Verdict | Exception]] = deque()
        try:
            while True:
                for task in islice(tasks, self.width - len(under_way)):
                    under_way.append(self._workers.submit(_judge, task))
                if not under_way:
                    return
                result = wait_for_result(under_way.popleft(), "judge fewer candidates at once")
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            self._workers.cancel_all()


@dataclass(frozen=True)
class _Task:
    kept: tuple[str, ...]
    candidate: str
    accept: Accept


@dataclass
class _Worker:
    """What a worker process keeps from one candidate to the next."""

    open_seat: Callable[[int], WorkerEnv]
    number: int
    seat: WorkerEnv | None = None
    kept: tuple[str, ...] = ()
    total: RunningSum = field(default_factory=RunningSum)

    def judge(self, task: _Task) -> Verdict:
        if self.seat is None:
            self.seat = self.open_seat(self.number)
        parts = {ingredient.name: ingredient for ingredient in self.seat.pool.ingredients}
        if task.kept[: len(self.kept)] != self.kept:
            self.kept, self.total = (), RunningSum()
        for name in task.kept[len(self.kept) :]:
            self.total.add(parts[name])
        self.kept = task.kept
        try:
            state = self.total.mean_with(parts[task.candidate])
        except BaseException:
            self.kept, self.total = (), RunningSum()  # Nobody knows how far the sum has come.
            raise
        return self.seat.judge(state, _Wanted(task.accept))


@dataclass(frozen=True)
class _Wanted:
    """The rule of a task, until it is called off: then nothing is good enough, and the judge stops."""

    accept: Accept

    def allows(self, verdict: Verdict) -> bool:
        return not is_cancelled() and self.accept.allows(verdict)


_worker: _Worker | None = None
"""Of a worker process; None in the process that has them."""


def _sit_down(open_seat: Callable[[int], WorkerEnv]) -> None:
    """What each worker process begins with."""
    global _worker
    _worker = _Worker(open_seat, worker_number() or 0)


def _judge(task: _Task) -> Verdict:
    assert _worker is not None
    return _worker.judge(task)
