"""Settings class of compare. Torch-free, so that `--help` is quick."""

from typing import Any, Literal

from pydantic import Field, field_validator

from soups.models.model_args import format_model_args
from soups.pipeline.settings.commands import PoolSettings
from soups.training.settings import TrainingSettings


class CompareSettings(PoolSettings):
    """Fine-tune several networks under one budget and compare accuracy and cost.

    Takes the flags of finetune.py. Each network is a run of its own, `<name>-<network>`; finished models are not
    trained again. The table goes to stdout and, with the figure, to `runs/<name>-comparison/`. Accuracy is measured on
    the test set where its labels are known, else on validation.
    """

    models: tuple[str, ...] | None = None
    """Networks, one word each: MODEL as in --model, or "MODEL NAME=VALUE ..." with settings of its own (such as lr,
    image_size or pretrained), a shorter `name` for the table, and any --model-args."""
    seeds: int = Field(default=2, gt=0)
    """Fine-tunes of each network; the table shows their means."""
    minutes: float | None = Field(default=None, gt=0)
    """Minutes of training for each network, instead of equal --epochs: converted to epochs by its measured speed."""
    cost: Literal["multiply_adds", "parameters", "seconds_per_epoch", "peak_memory"] = "multiply_adds"
    """Cost that the Pareto frontier compares with accuracy."""
    training: TrainingSettings = TrainingSettings()

    @field_validator("models", mode="before")
    @classmethod
    def _mappings_are_words(cls, models: Any) -> Any:
        if isinstance(models, str):
            return (models,)
        return [_word(model) for model in models] if isinstance(models, list | tuple) else models


def _word(model: Any) -> Any:
    """Return a network of a settings file, `{model: M, lr: 1e-3}`, as one word."""
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
