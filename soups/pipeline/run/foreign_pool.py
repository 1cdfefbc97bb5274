"""Finds the checkpoints in a folder of models made by other tools."""

import logging
import re
from pathlib import Path

from soups.checkpoints.card import Card, read_card
from soups.checkpoints.checkpoint import SUFFIX
from soups.core.errors import DataError

logger = logging.getLogger(__name__)

ENDINGS = (SUFFIX, ".pt", ".pth", ".pth.tar", ".ckpt", ".bin")
"""`.pth.tar` is the suffix of timm's training script."""


def find_checkpoints(folder: Path) -> dict[Path, Card | None]:
    """Returns the checkpoints directly in a folder, in natural order, with the cards of those that have one.

    Hidden files and this project's soups and starts are skipped. Of several links to one file (such as timm's
    `model_best.pth.tar`) only the first is returned.

    Raises:
        DataError: the folder does not exist, has no checkpoint, or has two with one name.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder",
            expected="a folder of checkpoints",
            next_step="set --model-location DIR",
        )
    files = [path for path in folder.iterdir() if path.name.endswith(ENDINGS) and not path.name.startswith(".")]
    found: dict[Path, Card | None] = {}
    seen: dict[tuple[int, int], Path] = {}
    for path in sorted((path for path in files if path.is_file()), key=lambda path: natural_key(path.name)):
        status = path.stat()
        if (first := seen.setdefault((status.st_dev, status.st_ino), path)) != path:
            logger.debug("%s: the same file as %s, used once", path, first.name)
            continue
        card = read_card(path) if path.suffix == SUFFIX else None
        if card is None or card.kind == "fine-tune":
            found[path] = card
    _check_distinct_names(list(found))
    if not found:
        raise DataError(
            f"{folder}: no checkpoints in it",
            expected=f"files that end in {', '.join(ENDINGS)}",
            next_step="set --model-location DIR to the folder that holds them; subfolders are not searched",
        )
    return found


def _check_distinct_names(paths: list[Path]) -> None:
    names: dict[str, Path] = {}
    for path in paths:
        if (first := names.setdefault(path.stem, path)) != path:
            raise DataError(
                f"{path}: has the same name as {first.name}",
                expected="a distinct name for each model",
                next_step="move one of them out of the folder, or rename it",
            )


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts `epoch_2` before `epoch_10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
