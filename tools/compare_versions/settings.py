"""Settings of `scripts/compare_versions.py`; free of torch, so that `--help` is quick."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from soups.cli.flags import Flag


class CompareVersionsSettings(BaseModel):
    """Run two versions of this repository on the same toy data and compare every file that they write.

    Each version runs from its own copy, through its command line alone: fine-tunes, soups of every recipe, votes,
    reports, search, export. Then the newer version works on the folder of the older one: soups are rebuilt, predictions
    repeated, finished models found. Tensors, arrays and numbers must be equal; sentences and pictures that differ are
    listed. Takes about seven minutes on two cores. Exit code 0 where equal, 3 where something differs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: str = "6f79166"
    """Commit of the older version; by default the last one before files were moved and renamed."""
    after: str | None = None
    """Commit of the newer version; by default the working tree."""
    short: Flag = False
    """Only a pool of two models, two soups and a vote: about a minute."""
    keep: Path | None = None
    """A new or empty folder that keeps what both versions wrote; by default a temporary one."""
