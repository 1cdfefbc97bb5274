"""What the search for hyperparameters can be told; free of torch, so that `--help` is quick."""

from typing import Literal

from pydantic import Field

from soups.pipeline.settings.commands import CommandSettings
from soups.training.settings import RandomRanges, TrainingSettings


class SearchSettings(CommandSettings):
    """Search for hyperparameters: every trial is a fine-tune of the run, learns from those before, and may join a soup.

    Trial t is fine-tune t, with the flags below wherever the space does not say otherwise. The same command goes on
    with the same search, after an interruption or beside others that run it; then flags that are left out are as
    recorded.
    """

    trials: int = Field(default=30, gt=0)
    """How many trials in all; what is there counts."""
    space: str = "original"
    """What is searched: `original` (epochs, batch size, learning rate, seed and, with --start-from, the start), `paper`
    (what --hparams random draws, from the ranges below), or a YAML file with a line for each hyperparameter:
    `lr: {low: 1e-6, high: 1e-3, log: true}`. What a flag gives is not searched."""
    search_sampler: Literal["tpe", "random", "qmc"] = "tpe"
    """What proposes trials: the tree-structured Parzen estimator, chance, or a quasi-random sequence."""
    pruning: Literal["none", "median", "hyperband"] = "none"
    """Which trials are given up on the way: none, those worse than the median at the same epoch, or by Hyperband."""
    objective: str | None = None
    """What makes a trial good: a metric on validation (default: the run's), or `soup`: how much the greedy soup of the
    finished trials gains when this one joins them."""
    search_seed: int = Field(default=0, ge=0)
    """Decides what is proposed; the seed of training is a hyperparameter."""
    keep: int | None = Field(default=None, gt=0)
    """Keep the checkpoints of so many trials: those of the present greedy soup, then the best."""
    storage: str | None = None
    """A database that several machines share, as Optuna has it: `postgresql://USER:PASSWORD@HOST/NAME`; by default a
    journal in the run's folder, for one machine."""
    near_duplicates: Literal["auto", "on", "off"] = "auto"
    """As of finetune.py: before a run begins, look for pictures in two sets that are nearly the same."""
    training: TrainingSettings = TrainingSettings()
    ranges: RandomRanges = RandomRanges()
    wandb: str = Field(default="disabled", pattern="^(disabled|offline|online)$")
    """Log to Weights & Biases as well, trials and figures: disabled, offline or online."""
