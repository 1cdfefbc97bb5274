"""Trains models one after the other, each with all processes that `accelerate launch` started."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from soups.cli.flags import ParsedSettings
from soups.core.errors import TrainingDiverged, UsageError, UserError
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train.one_model import train_as_follower, train_one
from soups.pipeline.train.plan import Task
from soups.runtime.process_group import ProcessGroup
from soups.runtime.workers import call_catching

logger = logging.getLogger(__name__)

PlanTasks = Callable[[ParsedSettings[FinetuneSettings]], list[Task]]


def train_in_group(plan_tasks: PlanTasks, parsed: ParsedSettings[FinetuneSettings], group: ProcessGroup) -> None:
    """Train the planned models; rank 0 plans and logs.

    Args:
        plan_tasks: returns the fine-tunes to train.
        parsed: the command's settings.
        group: a group of more than one process.

    Raises:
        UserError: one model failed; the models before it are finished.
    """
    if not group.is_main:
        logging.getLogger("soups").setLevel(logging.WARNING)
    tasks = group.broadcast(call_catching(partial(_plan_checked, plan_tasks, group), parsed) if group.is_main else None)
    if isinstance(tasks, Exception):
        if group.is_main:
            raise tasks
        raise SystemExit(tasks.exit_code if isinstance(tasks, UserError) else 1)
    assert tasks is not None
    for task in tasks:
        own = replace(task, runtime=task.runtime.for_worker(group.local_rank), is_first=task is tasks[0])
        if group.is_main:
            train_one(own, group=group)
            continue
        try:
            train_as_follower(own, group)
        except TrainingDiverged as error:  # The loss diverged in all processes, and rank 0 reports it.
            raise SystemExit(error.exit_code) from None


def _plan_checked(plan_tasks: PlanTasks, group: ProcessGroup, parsed: ParsedSettings[FinetuneSettings]) -> list[Task]:
    """Returns the planned fine-tunes; refuses flags that contradict training each model with all processes."""
    settings = parsed.settings
    refused = {"--jobs": settings.runtime.jobs != 1, "--launcher": settings.launch.launcher != "local"}
    for flag in (flag for flag, is_set in refused.items() if is_set):
        raise UsageError(
            f"{flag} under accelerate launch: its {group.size} processes train each model together",
            next_step=f"leave {flag} out, or call python finetune.py for one model on each device",
        )
    tasks = plan_tasks(parsed)
    requested = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if requested != "no":
        for precision in {task.runtime.precision for task in tasks} - {requested}:
            logger.warning("accelerate's --mixed_precision %s: the run's precision is %s", requested, precision)
    return tasks
