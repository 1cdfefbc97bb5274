"""What `scripts/compare.py` can be told; free of torch, so that `--help` is quick."""

from typing import Any, Literal

from pydantic import Field, field_validator

from soups.models.model_args import format_model_args
from soups.pipeline.settings.commands import PoolSettings
from soups.training.settings import TrainingSettings


class CompareSettings(PoolSettings):
    """Fine-tune several networks under one budget, and say which is better, by how much, and at what cost.

    Takes the flags of finetune.py. Each network is a run of its own, `<name>-<network>`; what is finished is not
    repeated. The table goes to stdout and with the figure to `runs/<name>-comparison/`. Accuracy is that on the test
    set where its labels are known, else on validation.
    """

    models: tuple[str, ...] | None = None
    """The networks, each a word: MODEL as --model takes it, or "MODEL NAME=VALUE ..." with settings of its own (such as
    lr, image_size or pretrained), a shorter `name` for the table, and whatever --model-args takes."""
    seeds: int = Field(default=2, gt=0)
    """Fine-tunes of each network; the table has their means."""
    minutes: float | None = Field(default=None, gt=0)
    """Instead of equal --epochs: as many as each network trains in about so many minutes, by its measured speed."""
    cost: Literal["multiply_adds", "parameters", "seconds_per_epoch", "peak_memory"] = "multiply_adds"
    """What the frontier holds accuracy against."""
    training: TrainingSettings = TrainingSettings()

    @field_validator("models", mode="before")
    @classmethod
    def _mappings_are_words(cls, models: Any) -> Any:
        if isinstance(models, str):
            return (models,)
        return [_word(model) for model in models] if isinstance(models, list | tuple) else models


def _word(model: Any) -> Any:
    """A network with settings of its own as a settings file may have it, `{model: M, lr: 1e-3}`, in one word."""
    if not isinstance(model, dict):
        return model
    if not isinstance(model.get("model"), str):
        raise ValueError("expected `model` among the settings of each network")
    more = model.get("model_args") or ()
    if isinstance(more, str):
        more = more.split()
    more = format_model_args(more) if isinstance(more, dict) else map(str, more)
    own = [f"{key}={value}" for key, value in model.items() if key not in ("model", "model_args")]
    return " ".join([model["model"], *own, *more])
