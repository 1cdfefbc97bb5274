"""Phases of a fine-tune and the position within them."""

from dataclasses import dataclass, field

from soups.training.settings import TrainingSettings


@dataclass
class Position:
    """How far a fine-tune has come. Field names are keys of the state file."""

    phase: int = 0
    epoch: int = 0
    """The current epoch, from 0, counted through all phases."""
    step: int = 0
    """Completed steps of this epoch."""
    loss: float = 0.0
    """Sum of the losses of the images of these steps."""
    seconds: float = 0.0
    """Duration of these steps."""
    left: float = 1.0
    """Cumulative factor of all plateau decays in this phase."""
    scores: dict[str, float] = field(default_factory=dict)
    """Scores of the last validation; with patience, of the best one."""
    first_loss: float = 0.0
    """Loss of the first step of the first phase, before any update; 0 before that step."""


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs in which one optimiser trains the same parameters."""

    number: int
    first: int
    """The first epoch of the phase."""
    end: int
    """The epoch after the last one of the phase."""
    head_only: bool
    final: bool


def make_phases(settings: TrainingSettings) -> list[Phase]:
    """Returns the phases of a fine-tune: the head alone, then all weights; or only one of them."""
    probe, epochs = settings.lp_epochs, settings.epochs
    if settings.freeze_backbone:
        return [Phase(0, 0, epochs, head_only=True, final=True)]
    everything = Phase(int(probe > 0), probe, probe + epochs, head_only=False, final=True)
    return [Phase(0, 0, probe, head_only=True, final=False), everything] if probe else [everything]
