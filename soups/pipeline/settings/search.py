"""Settings class of search. Torch-free, so that `--help` is quick."""

from typing import ClassVar, Literal

from pydantic import Field

from soups.pipeline.settings.commands import CommandSettings
from soups.training.settings import RandomRanges, TrainingSettings


class SearchSettings(CommandSettings):
    """Search hyperparameters with Optuna; every trial is a fine-tune of the run and may join a soup.

    Trial t is fine-tune t, with the flags below for everything that the space does not contain. The same command
    resumes the search after an interruption, or joins it from another process; flags that are left out are then read
    from the record.
    """

    RARE: ClassVar = ("near_duplicates", "search_seed")

    trials: int = Field(default=30, gt=0)
    """Total number of trials, earlier ones included."""
    space: str = "basic"
    """Search space: `basic` (epochs, batch size, learning rate and, with --start-from, the start), `original` (the same
    and the seed), `paper` (what --hparams random draws, from the ranges below), or a YAML file with a line for each
    hyperparameter: `lr: {low: 1e-6, high: 1e-3, log: true}`. Settings given as flags are not searched."""
    search_sampler: Literal["tpe", "random", "qmc"] = "tpe"
    """Sampler: tree-structured Parzen estimator, random, or quasi-random."""
    pruning: Literal["none", "median", "hyperband"] = "none"
    """Pruner: none, median (of the trials at the same epoch), or Hyperband."""
    objective: str | None = None
    """Objective: a metric on validation (by default the run's), or `soup`: the gain of the greedy soup of the finished
    trials when this trial joins them."""
    search_seed: int = Field(default=0, ge=0)
    """Seed of the sampler. The seed of training is --random-seed, or a hyperparameter of a space that names it."""
    keep: int | None = Field(default=None, gt=0)
    """Keep the checkpoints of this many trials: those of the present greedy soup, then the best."""
    storage: str | None = None
    """Database that several machines share, as an Optuna URL: `postgresql://USER:PASSWORD@HOST/NAME`. By default a
    journal in the run's folder, for one machine."""
    near_duplicates: Literal["auto", "on", "off"] = "auto"
    """As in finetune.py: look for nearly equal images in two sets before a run starts."""
    training: TrainingSettings = TrainingSettings()
    ranges: RandomRanges = RandomRanges()
    wandb: str = Field(default="disabled", pattern="^(disabled|offline|online)$")
    """Also log trials and figures to Weights & Biases: disabled, offline or online."""
