"""What `scripts/torture.py` is told. Torch-free: reading this costs nothing."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from soups.cli.flags import Flag


class TortureSettings(BaseModel):
    """Kill sweeps at random moments and saves at every system call, fill the disk, and write one log from many sides.

    A toy sweep (fine-tunes, evaluation, soups, pictures, predictions) is run once undisturbed. Then it is run again and
    again while its processes are killed (SIGKILL, workers included), each kill followed by the same plain command; at
    the end every model, soup, CSV and picture must have the same bytes as the undisturbed one, every log must say the
    same, and no line that was ever readable may be gone. Exit code 5 if anything is found. POSIX alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kills: int = Field(200, ge=0)
    """Kills at random moments of a sweep; 0: none."""
    aimed: float = Field(0.3, ge=0, le=1)
    """Part of them that wait, after their random moment, for the next temporary file to appear: more fall into a
    write."""
    plain: float = Field(0.1, ge=0, le=1)
    """Part of the commands that are started as `python …`; the others are forked from a process that has imported
    torch, which is some seconds quicker."""
    pairs: float = Field(0.1, ge=0, le=1)
    """Part of the commands that run with two worker processes, which are killed too."""
    system_calls: Flag = True
    """Kill a process at every system call of each kind of save, and refuse each of them with a full disk (needs
    strace)."""
    saves: tuple[str, ...] | None = None
    """Kinds of save for that; default: all."""
    full_disk: Flag = True
    """Run a sweep on a disk that has too little room, given more each time (needs the right to mount)."""
    room_step: int = Field(4, ge=1)
    """KiB more room after each refusal of the full disk."""
    lines: int = Field(10_000, ge=0)
    """Lines that each of eight processes appends to one log; 0: none."""
    seed: int = Field(0, ge=0)
    """Decides who is killed when."""
    folder: Path | None = None
    """An empty or new folder to work in, kept with `report.json` and `kills.jsonl` in it; default: a temporary one."""
