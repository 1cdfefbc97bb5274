"""Writes models to hub folders that timm or open_clip loads alone, and loads models from a path, folder or the hub."""

from pathlib import Path
from typing import TYPE_CHECKING

from soups.checkpoints.card import Card, card_text, parse_card
from soups.core.errors import DataError, EnvironmentFailure, one_line
from soups.files.atomic import write_text
from soups.models import hub
from soups.models.build import build_with_weights
from soups.models.load import load_classifier
from soups.models.open_clip.hub_folder import CLIP_FORMAT
from soups.models.open_clip.names import CLIP_CONFIG, OPEN_CLIP
from soups.models.timm.hub_folder import TIMM_CONFIG, TIMM_FORMAT, read_foreign_folder
from soups.models.timm.names import TIMM

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

CARD_FILE = "soups_card.json"
"""Our card beside the library's files; with it, loading restores the model exactly."""
HUB_PREFIX, FOLDER_PREFIX = "hf-hub:", "local-dir:"
FORMATS: dict[str, hub.HubFormat] = {TIMM: TIMM_FORMAT, OPEN_CLIP: CLIP_FORMAT}
"""Family → hub layout."""


def find_format(card: Card, where: str) -> hub.HubFormat:
    """Returns the hub layout for a model.

    Raises:
        DataError: no library has networks of the model's family.
    """
    family = card.architecture.family
    if family not in FORMATS:
        raise DataError(
            f"{where}: no other library builds {card.architecture.name!r}",
            expected=f"a network of {' or '.join(FORMATS)}",
            found=family,
            next_step="export a file that runs without this package: scripts/export.py",
        )
    return FORMATS[family]


def write_hub_folder(folder: Path, classifier: "Classifier", card: Card, where: str) -> None:
    """Writes a model (the library's files and our card) into an existing, empty folder.

    Args:
        folder: the folder.
        classifier: on the CPU, float32.
        card: card of the model.
        where: name of the model, for messages.

    Raises:
        DataError: no library has the network, or the library's network has another kind of classifier.
        EnvironmentFailure: the disk is full or the folder is not writable.
    """
    find_format(card, where).write(folder, classifier, card)
    write_text(folder / CARD_FILE, card_text(card))


def load_anywhere(name: str) -> "tuple[Classifier, Card]":
    """Returns a model (float32, on the CPU, in evaluation mode) and its card.

    Args:
        name: a checkpoint's path, a folder (`DIR` or `local-dir:DIR`), or `hf-hub:org/name[@revision]`.

    Raises:
        DataError: nothing has this name, or it is damaged or not a classifier.
        EnvironmentFailure: the hub cannot be reached.
    """
    if name.startswith(HUB_PREFIX):
        return load_hub_folder(_download_repository(name), name)
    path = Path(name.removeprefix(FOLDER_PREFIX)).expanduser()
    if path.is_dir():
        return load_hub_folder(path, str(path))
    if path.is_file():
        return load_classifier(path)
    looks_like_repository = name.count("/") == 1 and not name.startswith(("/", ".", "~"))
    raise DataError(
        f"{name}: no such file or folder",
        expected=f"a checkpoint, a folder as scripts/push_to_hub.py writes it, or {HUB_PREFIX}org/name",
        next_step=f"on the hub? give {HUB_PREFIX}{name}" if looks_like_repository else "check the path",
    )


def load_hub_folder(folder: Path, where: str) -> "tuple[Classifier, Card]":
    """Returns the model of a hub folder and its card; of a timm folder without our card, a card made of its config.

    Raises:
        DataError: the folder holds no classifier, or its files are damaged.
    """
    path = folder / CARD_FILE
    if path.is_file():
        card = parse_card(path.read_text(encoding="utf-8", errors="replace"), path)
        state = find_format(card, where).read(folder, card)
    elif (folder / TIMM_CONFIG).is_file() and not (folder / CLIP_CONFIG).is_file():
        state, card = read_foreign_folder(folder)
    else:
        clip = (folder / CLIP_CONFIG).is_file()
        names = sorted(path.name for path in folder.iterdir())
        listing = ", ".join(names[:5] + ["…"] * (len(names) > 5)) or "nothing"
        raise DataError(
            f"{where}: holds no classifier",
            expected=f"{CARD_FILE} with the weights, or {TIMM_CONFIG} and weights of timm's",
            found="a CLIP, which has no classes of its own" if clip else listing,
            next_step=f"fine-tune it: --model {FOLDER_PREFIX}FOLDER" if clip else "",
        )
    return build_with_weights(card.architecture, card.classes, state, where), card


def _download_repository(name: str) -> Path:
    """Returns the folder of the hub's cache with a repository's files, downloaded if missing."""
    from huggingface_hub import snapshot_download

    repository, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    files = [CARD_FILE, *(file for form in FORMATS.values() for file in form.files)]
    next_step = f"check the name {HUB_PREFIX}org/name, log in (hf auth login) where it is private, or load a folder"

    def download() -> Path:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=files))

    try:
        return hub.fetch_from_hub(download, name, next_step)
    except EnvironmentFailure as error:
        if isinstance(error.__cause__, ValueError):  # The hub's client refuses an invalid name.
            found = one_line(error.__cause__, 200)
            raise DataError(f"{name}: not a name on the hub", expected="hf-hub:org/name", found=found) from error
        raise
