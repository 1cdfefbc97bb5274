"""Settings of `scripts/torture.py`; imports no torch."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from soups.cli.flags import Flag


class TortureSettings(BaseModel):
    """Kill sweeps at random moments and saves at every system call, fill the disk, and write one log concurrently.

    A toy sweep (fine-tunes, evaluation, soups, figures, predictions) runs once undisturbed. Then it runs repeatedly
    while its processes are killed (SIGKILL, workers included); the same command follows each kill. In the end every
    model, soup, CSV and figure must have the same bytes as the undisturbed one, every log the same content, and no line
    that was ever readable may be lost. Exit code 5 if there are findings. POSIX only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kills: int = Field(200, ge=0)
    """Number of kills at random moments of a sweep; 0: none."""
    aimed: float = Field(0.3, ge=0, le=1)
    """Share of kills that wait, after their random moment, for the next temporary file, so that more kills interrupt a
    write."""
    plain: float = Field(0.1, ge=0, le=1)
    """Share of commands started as `python …`; the others are forked from a process that has imported torch, which
    saves some seconds."""
    pairs: float = Field(0.1, ge=0, le=1)
    """Share of commands that run with two worker processes, which are killed too."""
    system_calls: Flag = True
    """Kill a process at every system call of each kind of save, and fail each call with a full disk (needs strace)."""
    saves: tuple[str, ...] | None = None
    """Kinds of save for the system-call test. By default all."""
    full_disk: Flag = True
    """Run a sweep on a disk with too little room, with more room each time (needs permission to mount)."""
    room_step: int = Field(4, ge=1)
    """KiB added after each refusal of the full disk."""
    lines: int = Field(10_000, ge=0)
    """Lines that each of eight processes appends to one log; 0: none."""
    seed: int = Field(0, ge=0)
    """Seed of the moments and kinds of kills."""
    folder: Path | None = None
    """Empty or new folder to work in, kept with `report.json` and `kills.jsonl`. By default a temporary folder."""
