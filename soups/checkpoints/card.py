"""Checkpoint files: weights and their card in one safetensors file; `.pt` files of other tools, read safely."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from soups.checkpoints import torch_archive as archives
from soups.checkpoints.safe_unpickle import NAMESPACE
from soups.core.errors import DataError
from soups.core.labels import Factor, LabelSpace
from soups.core.preprocessing import Preprocessing
from soups.files.atomic import atomic_write, compact_json, sha256_of
from soups.files.file_hashes import check_hash
from soups.weights.safetensors_header import (
    Layout,
    header_bytes,
    layout_of,
    read_header,
    unreadable_file_error,
    write_hashed,
)

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = 1
SUFFIX = ".safetensors"


class _Value(BaseModel):
    # A number that is not finite stays one, so that writing it fails: as null it would make the card unreadable.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Architecture(_Value):
    """Which network the weights belong to: enough to build it again without any other file."""

    family: str
    """A key of the models' `BUILDERS`: `open_clip`, `timm` or `baseline`."""
    name: str
    """The library's exact name for it, or `custom` for a configuration of one's own."""
    quick_gelu: bool = False
    """Whether the activation is OpenAI's approximation of GELU."""
    config: dict[str, Any] | None = None
    """The library's configuration, where the name alone does not say it."""
    arguments: dict[str, Any] = Field(default_factory=dict, exclude_if=lambda arguments: not arguments)
    """What the network of this name is built with, where it is not as published (`--model-args`, `--image-size`)."""


class IngredientCard(_Value):
    """One ingredient of a soup."""

    name: str
    sha256: str
    coefficient: float


class SoupCard(_Value):
    """How a soup was made: with its ingredients' files, enough to make it again."""

    recipe: str
    ingredients: tuple[IngredientCard, ...]
    """In canonical order, by hash."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The recipe's own settings, those that it chose itself among them."""
    request: dict[str, Any] = Field(default_factory=dict)
    """What was asked for: options given, metric, and a fingerprint of the pool to choose from."""
    summary: str = ""
    """One sentence on what was kept, and where a single model was kept, why."""
    integers: str = ""
    """Where the tensors come from that cannot be averaged; empty where the model has none."""


class Card(_Value):
    """What a checkpoint says of itself. No time, host, path or duration: equal work gives equal bytes."""

    format: int = FORMAT_VERSION
    kind: Literal["start", "fine-tune", "soup"]
    architecture: Architecture
    classes: tuple[str, ...]
    """Class names in the order of the logits."""
    factors: tuple[tuple[str, tuple[str, ...]], ...] = Field(default=(), exclude_if=lambda factors: not factors)
    """Name and levels of each factor that the class names are made of, in their order; none where they are plain."""
    preprocessing: Preprocessing
    training: dict[str, Any] = Field(default_factory=dict)
    """The settings and seed of the fine-tune, with the precision and threads it ran with; a soup's card has only the
    precision and threads of its ingredients."""
    data: str = ""
    """Fingerprint of the samples table (images, labels, groups)."""
    split: str = ""
    """Fingerprint of who is in which split."""
    start: str = ""
    """SHA-256 of the start's weights file, shared by all models of a pool."""
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Set name → metric name → value."""
    soup: SoupCard | None = None

    @property
    def space(self) -> LabelSpace:
        """The classes with the factors that they are made of.

        Raises:
            DataError: the classes are not the products of the factors.
        """
        return LabelSpace(self.classes, tuple(Factor(name, levels) for name, levels in self.factors))


def card_text(card: Card) -> str:
    """A card as its file has it."""
    return compact_json(card.model_dump(mode="json"))


def write_checkpoint(path: Path, state: "Mapping[str, torch.Tensor]", card: Card | str) -> str:
    """Write weights and card as one safetensors file, whole or not at all.

    Args:
        path: ends in `.safetensors`.
        state: tensors on any device, of any dtype that the format has. Nothing is copied but what is not contiguous or
            not in the processor's memory, one tensor at a time; tensors that share memory are stored for each name.
        card: goes into the single metadata key `card`, so that the file's bytes depend on nothing else; or its text, as
            another file has it.

    Returns:
        The file's SHA-256 in hexadecimal.

    Raises:
        DataError: a tensor has a dtype that the format does not have.
        EnvironmentFailure: the disk is full or the folder may not be written.
    """
    metadata = {"card": card if isinstance(card, str) else card_text(card)}
    header, digest = header_bytes(layout_of(state), metadata), hashlib.sha256()
    with ThreadPoolExecutor(1) as hasher:
        with atomic_write(path) as temporary, temporary.open("wb") as stream:
            last = write_hashed(stream, header, state, digest, hasher)
        last.result()
    return digest.hexdigest()


def read_card(path: Path) -> Card | None:
    """The card of a safetensors file, read without loading torch or the weights; None where there is none.

    Raises:
        DataError: the file is missing, cut short, or its card is not valid.
    """
    text = read_header(path)[0].get("card")
    return None if text is None else parse_card(text, path)


def parse_card(text: str, path: Path) -> Card:
    """A card from its text.

    Args:
        text: as `card_text` gives it.
        path: the file that it comes from, for messages.

    Raises:
        DataError: it is not valid, or of another version.
    """
    try:
        content = json.loads(text)
        compact_json(content)  # Raises for numbers that are not finite.
        version = content.get("format")
        if version != FORMAT_VERSION:
            raise DataError(
                f"{path}: a card of another version",
                expected=f"format {FORMAT_VERSION}",
                found=f"format {version}",
                next_step="use the version of soups that wrote it",
            )
        return Card.model_validate_json(text)
    except (ValueError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        raise DataError(f"{path}: its card is damaged", found=str(error).splitlines()[0]) from error


def read_layout(path: Path) -> Layout:
    """Names, shapes and dtypes of a checkpoint's tensors; of a safetensors file without loading torch or the weights.

    Raises:
        DataError: the file is missing, cut short or damaged, or holds anything but tensors.
        EnvironmentFailure: it may not be read.
    """
    return read_header(path)[1] if path.suffix == SUFFIX else layout_of(read_state(path))


def read_state(path: Path, sha256: str | None = None) -> "dict[str, torch.Tensor]":
    """The tensors of a `.safetensors`, `.pt`, `.pth` or `.bin` file or a TorchScript archive, on the CPU.

    Where the format allows it (safetensors, and the archives that `torch.save` writes since 1.6), they are views of the
    mapped file: they take no memory of the process until they are changed, and a change never reaches the file.

    Args:
        path: the file; pickled formats are looked through first (`archives`) and read with `weights_only=True`, always.
        sha256: what the file's bytes must hash to, where that is known.

    Raises:
        DataError: the file is missing, cut short, damaged, changed since it was logged, or holds anything but tensors.
        EnvironmentFailure: it may not be read.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file", expected="a checkpoint")
    try:
        if sha256 is not None:
            check_hash(path, sha256, sha256_of(path))
        if path.suffix == SUFFIX:
            return _read_safetensors(path)
        return archives.read_torchscript(path) if archives.is_torchscript(path) else _read_pickle(path)
    except PermissionError as error:
        raise unreadable_file_error(path) from error


def _read_safetensors(path: Path) -> "dict[str, torch.Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise DataError(f"{path}: not a readable safetensors file", found=str(error).splitlines()[0]) from error


def _read_pickle(path: Path) -> "dict[str, torch.Tensor]":
    import torch

    content = _unwrap(read_pickled(path))
    if not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise DataError(f"{path}: not a state dict", expected="names and tensors", next_step=archives.ADVICE)
    return dict(content)


class _CommandLine:
    """Stands for the `argparse.Namespace` in a training checkpoint: takes its attributes and does nothing with them."""


def read_pickled(path: Path) -> Any:
    """What a file of `torch.save` holds, as it is, its tensors on the CPU and mapped where the format allows it.

    Raises:
        DataError: the file is cut short, hostile, or holds more than tensors and plain values.
    """
    import torch

    archives.check_claims(path)
    try:
        mapped = archives.is_plain_archive(path)
        with torch.serialization.safe_globals([(_CommandLine, NAMESPACE)]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        # A hostile or broken pickle can raise nearly anything; none of it is our fault.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = f"{path}: not a safe, whole checkpoint"
        raise DataError(problem, found=reason[:200], next_step=archives.ADVICE) from error


def _unwrap(content: Any) -> dict[str, Any]:
    """The state dict inside the wrappings that training scripts add."""
    if not isinstance(content, Mapping):
        return {}
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), Mapping):
            return dict(content[key])
    return dict(content)
