"""Models in folders that timm or open_clip loads without this project, and where `soups.load` finds a model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.checkpoints.card import Card, card_text, parse_card
from soups.core.errors import DataError, EnvironmentFailure
from soups.files.atomic import write_text
from soups.models import hub
from soups.models.build import build_with_weights
from soups.models.load import load_classifier
from soups.models.open_clip import hub_folder as hub_folder_clip
from soups.models.open_clip import names as clip_names
from soups.models.open_clip.folder import CONFIG_FILE as CLIP_CONFIG
from soups.models.timm import build as timm_models
from soups.models.timm import hub_folder as hub_folder_timm

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from soups.models.classifier import Classifier

CARD_FILE = "soups_card.json"
"""Our own card, beside what the library reads: with it, a model comes back as it was."""
HUB_PREFIX, FOLDER_PREFIX = "hf-hub:", "local-dir:"
_FILES = (
    *(CARD_FILE, hub_folder_timm.CONFIG_FILE, hub_folder_timm.WEIGHTS_FILE),
    *(CLIP_CONFIG, hub_folder_clip.WEIGHTS_FILE, hub_folder_clip.HEAD_FILE),
)


@dataclass(frozen=True)
class HubFormat:
    """How a library's hub keeps a model."""

    library: str
    """Its name on the hub."""
    write: "Callable[[Path, Classifier, Card], None]"
    """(folder, classifier, card): weights and configuration into a folder that is there."""
    read: "Callable[[Path, Card], dict[str, torch.Tensor]]"
    """(folder, card): the state under our names."""
    answers: "Callable[[Path, Image.Image], np.ndarray]"
    """(folder, picture): (1, C) float32 logits, by the library alone."""
    usage: str
    """Python that does so, of FOLDER and IMAGE."""


FORMATS: dict[str, HubFormat] = {
    timm_models.FAMILY: HubFormat(
        hub_folder_timm.LIBRARY,
        hub_folder_timm.write,
        hub_folder_timm.read,
        hub_folder_timm.reference_logits,
        hub_folder_timm.USAGE,
    ),
    clip_names.FAMILY: HubFormat(
        hub_folder_clip.LIBRARY,
        hub_folder_clip.write,
        hub_folder_clip.read,
        hub_folder_clip.reference_logits,
        hub_folder_clip.USAGE,
    ),
}


def find_format(card: Card, where: str) -> HubFormat:
    """how a model can be kept.

    Raises:
        DataError: no library has networks of its family.
    """
    family = card.architecture.family
    if family not in FORMATS:
        raise DataError(
            f"{where}: no library beside this one builds {card.architecture.name!r}",
            expected=f"a network of {' or '.join(FORMATS)}",
            found=family,
            next_step="scripts/export.py writes a file that runs without its code",
        )
    return FORMATS[family]


def write_hub_folder(folder: Path, classifier: "Classifier", card: Card, where: str) -> None:
    """Write a model into a folder that is there: what its library loads, and our own card.

    Args:
        folder: an empty one.
        classifier: on the CPU, float32.
        card: of the model.
        where: what the model is called in messages.

    Raises:
        DataError: no library has such a network, or has it with another classifier.
        EnvironmentFailure: the disk is full or the folder may not be written.
    """
    find_format(card, where).write(folder, classifier, card)
    write_text(folder / CARD_FILE, card_text(card))


def load_anywhere(name: str) -> "tuple[Classifier, Card]":
    """A model by name, float32, on the CPU, in evaluation mode, and its card.

    Args:
        name: a checkpoint's path, a folder (`DIR` or `local-dir:DIR`), or `hf-hub:org/name`, with `@revision` or not.

    Raises:
        DataError: nothing is there, or it is damaged or no classifier.
        EnvironmentFailure: the hub cannot be reached.
    """
    if name.startswith(HUB_PREFIX):
        return load_hub_folder(_downloaded(name), name)
    path = Path(name.removeprefix(FOLDER_PREFIX)).expanduser()
    if path.is_dir():
        return load_hub_folder(path, str(path))
    if path.is_file():
        return load_classifier(path)
    raise DataError(
        f"{name}: no such file or folder",
        expected=f"a checkpoint, a folder as scripts/push_to_hub.py writes it, or {HUB_PREFIX}org/name",
        next_step=f"on the hub? give {HUB_PREFIX}{name}" if _may_be_on_the_hub(name) else "check the path",
    )


def load_hub_folder(folder: Path, where: str) -> "tuple[Classifier, Card]":
    """The model of a hub folder; one of timm's without our card, as far as its configuration says what it is.

    Raises:
        DataError: the folder holds no classifier, or its files are damaged.
    """
    path = folder / CARD_FILE
    if path.is_file():
        card = parse_card(path.read_text(encoding="utf-8", errors="replace"), path)
        state = find_format(card, where).read(folder, card)
    elif (folder / hub_folder_timm.CONFIG_FILE).is_file() and not (folder / CLIP_CONFIG).is_file():
        state, card = hub_folder_timm.read_foreign(folder)
    else:
        clip = (folder / CLIP_CONFIG).is_file()
        raise DataError(
            f"{where}: holds no classifier",
            expected=f"{CARD_FILE} with the weights, or {hub_folder_timm.CONFIG_FILE} and weights of timm's",
            found="a CLIP, which has no classes of its own" if clip else ", ".join(_some(folder)) or "nothing",
            next_step=f"fine-tune it: --model {FOLDER_PREFIX}FOLDER" if clip else "",
        )
    return build_with_weights(card.architecture, card.classes, state, where), card


def _some(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir())
    return [*names[:5], "…"] if len(names) > 5 else names


def _may_be_on_the_hub(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith(("/", ".", "~"))


def _downloaded(name: str) -> Path:
    """The folder of the hub's cache that has a repository's files, fetched where they are not there."""
    from huggingface_hub import snapshot_download

    repository, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    try:
        found = hub.fetch_from_hub(
            lambda: snapshot_download(repository, revision=revision or None, allow_patterns=list(_FILES)),
            name,
            f"check the name {HUB_PREFIX}org/name, log in (hf auth login) where it is private, or load a folder",
        )
    except EnvironmentFailure as error:
        if isinstance(error.__cause__, ValueError):  # The hub's client refuses a name that cannot be one.
            found_name = " ".join(str(error.__cause__).split())[:200]
            raise DataError(f"{name}: not a name on the hub", expected="hf-hub:org/name", found=found_name) from error
        raise
    return Path(found)
