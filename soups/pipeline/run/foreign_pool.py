"""Finds the checkpoints in a folder of models made by other tools."""

import logging
import re
from pathlib import Path

from soups.checkpoints.card import Card, read_card
from soups.checkpoints.checkpoint import SUFFIX
from soups.core.errors import DataError

logger = logging.getLogger(__name__)

_PART = re.compile(r"-\d{5}-of-\d{5}(?=\.)")
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
        _check_is_whole(path)
        card = read_card(path) if path.suffix == SUFFIX else None
        if card is None or card.kind == "fine-tune":
            found[path] = card
    _check_distinct_names(list(found))
    if not found:
        raise _no_checkpoints_error(folder)
    return found


def _no_checkpoints_error(folder: Path) -> DataError:
    """Returns the error for a folder without checkpoints; names those in its subfolders."""
    below = sorted(path for path in folder.glob("*/*") if path.name.endswith(ENDINGS) and path.is_file())
    next_step = "set --model-location DIR to the folder that holds them; subfolders are not searched"
    if weights := [path for path in below if path.stem in ("model", "pytorch_model")]:  # Hugging Face's Trainer.
        copy = f'cp "$f" "pool/$(basename "$(dirname "$f")"){weights[0].suffix}"'
        next_step = f'collect them: mkdir pool; for f in "{folder}"/*/{weights[0].name}; do {copy}; done'
    return DataError(
        f"{folder}: no checkpoints in it",
        expected=f"files that end in {', '.join(ENDINGS)}",
        found=f"{len(below)} in its subfolders, such as {below[0]}" if below else "",
        next_step=next_step,
    )


def _check_is_whole(path: Path) -> None:
    """Raise for a part of a checkpoint that Hugging Face's tools divided; the message has the command that joins it."""
    if not _PART.search(path.name):
        return
    load, save = ("load_file(f)", "save_file") if path.suffix == SUFFIX else ("torch.load(f)", "torch.save")
    module = "from safetensors.torch import load_file, save_file" if path.suffix == SUFFIX else "import torch"
    every, whole = path.with_name(_PART.sub("-*-of-*", path.name)), _PART.sub("", path.name)
    code = f"t = {{}}; [t.update({load}) for f in glob.glob({str(every)!r})]; {save}(t, {whole!r})"
    raise DataError(
        f"{path}: a part of a checkpoint",
        expected="whole checkpoints",
        next_step=f'join its parts in another folder: python -c "import glob; {module}; {code}"',
    )


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
