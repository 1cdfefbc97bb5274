"""Planned fine-tunes: indices, finished models, and models with other settings."""

from pathlib import Path

import pytest

from soups.checkpoints.card import read_card
from soups.checkpoints.checkpoint import write_checkpoint
from soups.core.errors import UsageError
from soups.pipeline.run.run import Run
from soups.pipeline.settings.commands import FinetuneSettings
from soups.pipeline.train.plan import Task, parse_indices, plan, requested_settings
from soups.training.settings import TrainingSettings
from tests.pipeline.small_run import CARD, RUNTIME, make_run


@pytest.mark.parametrize(("text", "indices"), [("3", [3]), ("0-3", [0, 1, 2, 3]), ("0, 4,2-3,4", [0, 4, 2, 3])])
def test_indices(text: str, indices: list[int]) -> None:
    assert parse_indices(text) == indices


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "-1"])
def test_texts_that_are_no_indices(text: str) -> None:
    with pytest.raises(UsageError, match=r"--i: invalid indices\n.*a number, a range or a list"):
        parse_indices(text)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path)


def finish(run: Run, settings: FinetuneSettings, index: int, **extra: object) -> Path:
    """Write the fine-tune of these settings as if it were trained."""
    record = Task(index, settings.training, settings, "p", RUNTIME).record
    card = CARD.model_copy(update={"kind": "fine-tune", "training": {**record, **extra}})
    path = run.models / f"p{index}_epochs{settings.training.epochs}.safetensors"
    write_checkpoint(path, {}, card)
    return path


def test_finished_models_are_not_trained_again(run: Run) -> None:
    settings = FinetuneSettings(training=TrainingSettings(epochs=3))
    finish(run, settings, 5, device="cuda", processes=2)
    state = run.state_path(5)
    state.parent.mkdir(parents=True)
    state.write_bytes(b"")
    assert [task.index for task in plan(run, settings, RUNTIME, [5, 6])] == [6]
    assert not state.exists()
    assert plan(run, settings, RUNTIME, None) == [], "without an index, the model with these settings is meant"


def test_without_an_index_the_next_free_one_is_used(run: Run) -> None:
    (task,) = plan(run, FinetuneSettings(training=TrainingSettings(epochs=3)), RUNTIME, None)
    assert task.index == 2, "0, 1 and 10 exist"


def test_other_settings_under_an_index_are_refused(run: Run) -> None:
    path = finish(run, FinetuneSettings(training=TrainingSettings(epochs=3)), 5)
    other = FinetuneSettings(training=TrainingSettings(epochs=3, lr=0.5))
    with pytest.raises(
        UsageError,
        match=r"was trained with other settings\n.*recorded: --lr 2e-05\n.*given:    --lr 0\.5\n.*--overwrite",
    ):
        plan(run, other, RUNTIME, [5])
    (task,) = plan(run, other.model_copy(update={"overwrite": True}), RUNTIME, [5])
    assert task.replaces == path


def test_what_describes_a_training_is_not_compared(run: Run) -> None:
    settings = FinetuneSettings(training=TrainingSettings(epochs=3))
    card = read_card(finish(run, settings, 5, device="cpu", micro_batch_size=3, sharded=True))
    assert card is not None
    assert requested_settings(card) == Task(5, settings.training, settings, "p", RUNTIME).record


def test_a_task_without_its_run(run: Run) -> None:
    settings = FinetuneSettings.model_validate({"run": {"runs_folder": str(run.folder.parent)}})
    with pytest.raises(UsageError, match="/gone: no such run"):
        Task(0, TrainingSettings(), settings, "gone", RUNTIME).open_run()
