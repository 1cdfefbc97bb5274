"""The course of a fine-tune: its phases, and how far it has come."""

from dataclasses import dataclass, field

from soups.training.settings import TrainingSettings


@dataclass
class Position:
    """How far a fine-tune has come."""

    phase: int = 0
    epoch: int = 0
    """The epoch to go on with, from 0, counted through all phases."""
    step: int = 0
    """Steps of it that are done."""
    loss: float = 0.0
    """Sum of the losses of the images of these steps."""
    seconds: float = 0.0
    """What these steps took."""
    left: float = 1.0
    """What falls on a plateau have left of the learning rate, in this phase."""
    scores: dict[str, float] = field(default_factory=dict)
    """Of the last validation; with patience, of the best."""


@dataclass(frozen=True)
class Phase:
    """Epochs in which the same is trained by one optimiser."""

    number: int
    first: int
    """Its first epoch."""
    end: int
    """The epoch after its last one."""
    head_only: bool
    final: bool


def make_phases(settings: TrainingSettings) -> list[Phase]:
    """The head alone, then everything; or one of both."""
    probe, epochs = settings.lp_epochs, settings.epochs
    if settings.freeze_backbone:
        return [Phase(0, 0, epochs, head_only=True, final=True)]
    everything = Phase(int(probe > 0), probe, probe + epochs, head_only=False, final=True)
    return [Phase(0, 0, probe, head_only=True, final=False), everything] if probe else [everything]
