"""Translates state dicts of other tools to our keys: finds backbone and head, and drops the text tower.

Supports the original model-soups code (Wortsman et al. 2022, github.com/mlfoundations/model-soups: `model.visual.*`,
`classification_head.*`), open_clip and timm, each under any prefix: the names of its tensors identify the backbone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError
from soups.models.build import build_without_storage
from soups.models.foreign.hugging_face import is_hugging_face_vit
from soups.models.open_clip.names import OPEN_CLIP
from soups.models.pretrained import check_head_rows, format_keys
from soups.models.timm.names import TIMM, classifier_names

if TYPE_CHECKING:
    import torch

    State = Mapping[str, torch.Tensor]

_HEADS = ("classification_head", "head", "classifier", "fc", "linear")
_IMAGE_TOWER = "visual."
# Tensors of a CLIP outside the image tower: the text tower and the parameters of the loss.
_TEXT_KEYS = (
    *("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", "logit_scale"),
    *("logit_bias", "attn_mask", "text.", "text_decoder."),
)
_ADVICE = "give the --model that these weights were made with, or move the file out of the folder"


@dataclass(frozen=True)
class ExpectedTensors:
    """Names and shapes of the tensors that a checkpoint of an architecture must hold, without their values."""

    name: str
    """Name of the network, for messages."""
    shapes: Mapping[str, tuple[int, ...]]
    """Backbone key → shape, in the network's order."""
    counters: Mapping[str, "torch.dtype"]
    """Backbone key → dtype of the integer tensors, which older files may lack."""
    features: int
    heads: tuple[str, ...]
    """Possible module names of the classifier."""
    has_text: bool
    """Whether files may include a text tower."""


@dataclass(frozen=True)
class TranslatedState:
    """A state under our keys, with notes on its translation."""

    state: "dict[str, torch.Tensor]"
    """`backbone.*`, `head.weight` (C, D) and `head.bias` (C,), in the network's order; views of the input tensors."""
    notes: tuple[str, ...]
    """What was renamed, dropped or filled with zeros, one text each."""


def expected_tensors(architecture: Architecture) -> ExpectedTensors:
    """Returns the tensors that a checkpoint of this architecture must hold, without allocating them if possible.

    Raises:
        DataError: the installed libraries do not know the architecture.
    """
    classifier = build_without_storage(architecture, ("0", "1"), architecture.name)
    own = classifier.backbone.state_dict()
    config: Any = classifier.backbone.pretrained_cfg if architecture.family == TIMM else {}
    return ExpectedTensors(
        name=architecture.name,
        shapes={key: tuple(tensor.shape) for key, tensor in own.items()},
        counters={key: tensor.dtype for key, tensor in own.items() if not tensor.is_floating_point()},
        features=classifier.head.in_features,
        heads=(*classifier_names(config), *_HEADS),
        has_text=architecture.family == OPEN_CLIP,
    )


def translate_state(
    state: "State",
    network: ExpectedTensors,
    where: str,
    *,
    classes: Sequence[str] | None = None,
    head: "State | None" = None,
) -> TranslatedState:
    """Returns another tool's state under our keys, with notes on what was changed.

    Drops a text tower and extra integer tensors; fills absent integer tensors and an absent bias with zeros.

    Args:
        state: tensors under the file's keys.
        network: the expected tensors.
        where: the file, for messages.
        classes: class names, one a row of the head; None: any number of rows.
        head: `weight` (C, D) and `bias` (C,) for a state without a head (a CLIP's zero-shot head).

    Raises:
        DataError: the state is not of this network, has an unknown tensor, or has no head or two; the message names the
            tensors.
    """
    parts = _split_state(state, network, where)
    backbone, absent = _translate_backbone(state, network, parts.prefix, where)
    head = parts.head or head
    if head is None:
        raise _missing_head_error(where, network, bool(parts.text))
    counters = [key for key, tensor in parts.rest.items() if not tensor.is_floating_point()]
    if unknown := [key for key in parts.rest if key not in counters]:
        raise DataError(
            f"{where}: unknown tensor {format_keys(unknown)}",
            expected=f"the tensors of {network.name} and of one head ({', '.join(dict.fromkeys(network.heads))})",
            next_step=_ADVICE,
        )
    notes = {
        f"`{parts.prefix}*` is the backbone": parts.prefix,
        f"without {format_keys(absent)}: zero": absent,
        f"{len(parts.text)} tensors of the text tower dropped": parts.text,
        "a head without bias: zero": "bias" not in head,
        f"integer tensors dropped: {format_keys(counters)}": counters,
    }
    translated = backbone | _translate_head(head, network, where, classes)
    return TranslatedState(translated, tuple(note for note, holds in notes.items() if holds))


def lacks_head(state: "State", network: ExpectedTensors, where: str) -> bool:
    """Returns whether a state of this network has no classifier.

    Raises:
        DataError: the state is not of this network, or has two classifiers.
    """
    return not _split_state(state, network, where).head


def select_clip_tensors(state: "State", network: ExpectedTensors, where: str) -> "dict[str, torch.Tensor]":
    """Returns the tensors of both towers under open_clip's keys, from a state without classifier.

    Raises:
        DataError: the state has no text tower.
    """
    parts = _split_state(state, network, where)
    clip_prefix = parts.prefix.removesuffix(_IMAGE_TOWER)
    if not any("token_embedding." in key or key.startswith(f"{clip_prefix}text.") for key in parts.text):
        raise _missing_head_error(where, network, False)
    towers = {key: tensor for key, tensor in state.items() if key.startswith(parts.prefix) or key in parts.text}
    return {key.removeprefix(clip_prefix): tensor for key, tensor in towers.items()}


@dataclass(frozen=True)
class _Parts:
    """The tensors of a state outside the backbone, by their purpose."""

    prefix: str
    """Prefix of the backbone's keys."""
    text: "State"
    """The text tower, under the file's keys."""
    head: "State"
    """`weight` and perhaps `bias` of the classifier; empty if there is none."""
    rest: "State"
    """All others, under the file's keys."""


def _split_state(state: "State", network: ExpectedTensors, where: str) -> _Parts:
    """Splits a state; raises DataError if it is not of this network or has two classifiers."""
    prefix = _find_backbone_prefix(state, network, where)
    has_text = network.has_text and prefix.endswith(_IMAGE_TOWER)
    text_prefixes = tuple(f"{prefix.removesuffix(_IMAGE_TOWER)}{part}" for part in _TEXT_KEYS) if has_text else ()
    own = {f"{prefix}{key}" for key in network.shapes}
    text = {key: tensor for key, tensor in state.items() if key not in own and key.startswith(text_prefixes)}
    rest = {key: tensor for key, tensor in state.items() if key not in own and key not in text}
    modules = [key.removesuffix(".weight") for key in rest if key.endswith(".weight")]
    heads = [each for each in modules if each.removeprefix(prefix) in network.heads or each.split(".")[-1] in _HEADS]
    if len(heads) > 1:
        raise DataError(f"{where}: has {len(heads)} heads", expected="one classifier", found=format_keys(heads))
    keys = {f"{name}.{part}": part for name in heads for part in ("weight", "bias")}
    head = {part: rest.pop(key) for key, part in keys.items() if key in rest}
    return _Parts(prefix, text, head, rest)


def _find_backbone_prefix(state: "State", network: ExpectedTensors, where: str) -> str:
    """Returns the prefix of the backbone's keys; raises DataError if the state has less than half of its tensors."""
    hits: Counter[str] = Counter()
    for key in state:
        begin = 0
        while begin >= 0:
            if key[begin:] in network.shapes:
                hits[key[:begin]] += 1
            begin = key.find(".", begin) + 1 or -1
    needed = len(network.shapes) - len(network.counters)
    # A network may contain another with the same keys: the most matches win, then the shortest prefix.
    prefix = max(hits, key=lambda candidate: (hits[candidate], -len(candidate)), default=None)
    if prefix is None or hits[prefix] < needed / 2:
        raise DataError(
            f"{where}: not a checkpoint of {network.name}",
            expected=f"its {len(network.shapes)} tensors, such as {format_keys(list(network.shapes))}",
            found=format_keys(list(state)) or "no tensors",
            next_step=_advice_on(state, where),
        )
    return prefix


def _advice_on(state: "State", where: str) -> str:
    """Returns the next step for weights under other names: the command that converts them, if there is one."""
    path = Path(where)
    if is_hugging_face_vit(state):
        call = f"convert({where!r}, {str(path.with_name(f'{path.stem}-timm.safetensors'))!r})"
        command = f'python -c "from soups.models.foreign.hugging_face import convert; {call}"'
        return f"it is a ViT under Hugging Face's names; convert it to timm's and move it away: {command}"
    return _ADVICE


def _translate_backbone(
    state: "State", network: ExpectedTensors, prefix: str, where: str
) -> "tuple[dict[str, torch.Tensor], list[str]]":
    """Returns the backbone under our keys, and the keys of absent integer tensors (filled with zeros)."""
    import torch

    found = {key: state[f"{prefix}{key}"] for key in network.shapes if f"{prefix}{key}" in state}
    problem = f"{where}: its weights do not fit {network.name}"
    if wrong := [key for key, tensor in found.items() if tuple(tensor.shape) != network.shapes[key]]:
        expected = f"{f'{prefix}{wrong[0]}'!r} of shape {network.shapes[wrong[0]]}"
        more = f" (and {len(wrong) - 1} more tensors of other shapes)" if len(wrong) > 1 else ""
        shape = f"shape {tuple(found[wrong[0]].shape)}{more}"
        raise DataError(problem, expected=expected, found=shape, next_step=_ADVICE)
    absent = [key for key in network.counters if key not in found]
    found |= {key: torch.zeros(network.shapes[key], dtype=network.counters[key]) for key in absent}
    if missing := [f"{prefix}{key}" for key in network.shapes if key not in found]:
        raise DataError(problem, expected=format_keys(missing), found="no such tensors", next_step=_ADVICE)
    return {f"backbone.{key}": found[key] for key in network.shapes}, [f"{prefix}{key}" for key in absent]


def _missing_head_error(where: str, network: ExpectedTensors, has_text: bool) -> DataError:
    """Returns the error for a state without classifier."""
    advice = "put it into a pool, where a whole CLIP gets its zero-shot head: python main.py --model-location FOLDER"
    return DataError(
        f"{where}: has no classification head" + ("" if has_text else ", and no text tower to make one from"),
        expected=f"a linear layer of {network.features} features, such as `classification_head.weight`",
        next_step=advice if has_text else "give checkpoints of classifiers, or of a whole CLIP with its text tower",
    )


def _translate_head(
    head: "State", network: ExpectedTensors, where: str, classes: Sequence[str] | None
) -> "dict[str, torch.Tensor]":
    """Returns the head under our keys; raises DataError if it does not fit the features or the classes."""
    weight, bias = head["weight"], head.get("bias")
    if weight.ndim == 4 and tuple(weight.shape[2:]) == (1, 1):  # Some of timm's classifiers are convolutions.
        weight = weight.flatten(1)
    rows = len(weight) if weight.ndim == 2 else 0
    if weight.ndim != 2 or weight.shape[1] != network.features or (bias is not None and tuple(bias.shape) != (rows,)):
        shapes = f"{tuple(weight.shape)}" + (f" with a bias {tuple(bias.shape)}" if bias is not None else "")
        expected = f"a weight (classes, {network.features}) and a bias (classes,)"
        problem = f"{where}: its head does not fit {network.name}"
        raise DataError(problem, expected=expected, found=shapes, next_step=_ADVICE)
    if classes is not None:
        next_step = "give the data that the model was trained for, or move the file out of the folder"
        check_head_rows(weight, classes, where, next_step)
    return {"head.weight": weight, "head.bias": weight.new_zeros(rows) if bias is None else bias}
