"""Settings of `scripts/fuzz.py`; imports no torch."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FuzzSettings(BaseModel):
    """Read mutated images, checkpoints, settings files and tables, and count how each was answered.

    Each file is read, or refused with a message. Findings are all else: other exceptions, crashes, more than 5 s of
    processor time, and more memory than the limit. Exit code 5 if there are findings. POSIX only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: tuple[Literal["images", "checkpoints", "settings", "tables"], ...] = ()
    """Kinds of files; by default all."""
    count: int | None = Field(default=None, ge=1)
    """Mutated files of each kind. By default 100,000 images, 10,000 checkpoints, 2,000 settings files, 2,000 tables."""
    seed: int = Field(default=0, ge=0)
    """Seed of the mutations. The mutation with a number depends on the kind, the seed and the number only."""
    first: int = Field(default=0, ge=0)
    """Number of the first mutation, to repeat a finding together with `--count 1`."""
    memory: float = Field(default=2.0, gt=0)
    """Address space that reading may add to the process, in GiB."""
    keep: Path | None = None
    """Folder for the files of findings; by default they are not kept."""
