"""Translates state dicts of other tools to our keys: finds backbone and head, and drops the text tower.

Supports the original model-soups code (Wortsman et al. 2022, github.com/mlfoundations/model-soups: `model.visual.*`,
`classification_head.*`), open_clip and timm, each under any prefix: the names of its tensors identify the backbone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError
from soups.models.build import build_without_storage
from soups.models.open_clip import names as clip_names
from soups.models.pretrained import format_classes, format_keys
from soups.models.timm import build as timm_models
from soups.models.timm import names as timm_names

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
    is_timm = architecture.family == timm_names.FAMILY
    return ExpectedTensors(
        name=architecture.name,
        shapes={key: tuple(tensor.shape) for key, tensor in own.items()},
        counters={key: tensor.dtype for key, tensor in own.items() if not tensor.is_floating_point()},
        features=classifier.head.in_features,
        heads=(*(timm_models.classifier_names(classifier.backbone) if is_timm else ()), *_HEADS),
        has_text=architecture.family == clip_names.FAMILY,
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
    prefix = find_backbone_prefix(state, network, where)
    notes = [f"`{prefix}*` is the backbone"] * bool(prefix)
    result, absent = _translate_backbone(state, network, prefix, where)
    notes += [f"without {format_keys(absent)}: zero"] * bool(absent)
    rest = _select_rest(state, network, prefix)
    text = [key for key in rest if key.startswith(_text_prefixes(network, prefix))]
    notes += [f"{len(text)} tensors of the text tower dropped"] * bool(text)
    rest = {key: tensor for key, tensor in rest.items() if key not in text}
    name = _find_head(rest, network, prefix, where)
    if name is None and head is None:
        raise missing_head_error(where, network, bool(text))
    weight = rest.pop(f"{name}.weight") if name is not None else (head or {})["weight"]
    bias = rest.pop(f"{name}.bias", None) if name is not None else (head or {})["bias"]
    result |= _translate_head(weight, bias, network, f"{where}: its head", classes)
    notes += ["a head without bias: zero"] * (bias is None)
    return TranslatedState(result, (*notes, *_drop_integer_tensors(rest, network, where)))


def _drop_integer_tensors(rest: "State", network: ExpectedTensors, where: str) -> list[str]:
    """Returns notes on the remaining tensors: integer tensors are dropped; any other raises DataError."""
    counters = [key for key, tensor in rest.items() if not tensor.is_floating_point()]
    if unknown := [key for key in rest if key not in counters]:
        raise DataError(
            f"{where}: unknown tensor {format_keys(unknown)}",
            expected=f"the tensors of {network.name} and of one head ({', '.join(dict.fromkeys(network.heads))})",
            next_step=_ADVICE,
        )
    return [f"integer tensors dropped: {format_keys(counters)}"] * bool(counters)


def find_backbone_prefix(state: "State", network: ExpectedTensors, where: str) -> str:
    """Returns the prefix of the backbone's keys in this state.

    Raises:
        DataError: the state has less than half of the backbone's tensors.
    """
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
            next_step=_ADVICE,
        )
    return prefix


def clip_prefix(prefix: str) -> str:
    """Returns the prefix of a whole CLIP's keys, from the prefix of its image tower's keys."""
    return prefix.removesuffix(_IMAGE_TOWER)


def lacks_head(state: "State", network: ExpectedTensors, where: str) -> bool:
    """Returns whether a state of this network has no classifier.

    Raises:
        DataError: the state is not of this network, or has two classifiers.
    """
    prefix = find_backbone_prefix(state, network, where)
    text = _text_prefixes(network, prefix)
    rest = {key: tensor for key, tensor in _select_rest(state, network, prefix).items() if not key.startswith(text)}
    return _find_head(rest, network, prefix, where) is None


def select_clip_tensors(state: "State", network: ExpectedTensors, where: str) -> "dict[str, torch.Tensor]":
    """Returns the tensors of both towers under open_clip's keys, from a state without classifier.

    Raises:
        DataError: the state has no text tower.
    """
    prefix = find_backbone_prefix(state, network, where)
    root, text = clip_prefix(prefix), _text_prefixes(network, prefix)
    towers = {key.removeprefix(root): tensor for key, tensor in state.items() if key.startswith((prefix, *text))}
    if not any("token_embedding." in key or key.startswith("text.") for key in towers):
        raise missing_head_error(where, network, False)
    return towers


def _select_rest(state: "State", network: ExpectedTensors, prefix: str) -> "dict[str, torch.Tensor]":
    """Returns the tensors that are not of the backbone."""
    own = {f"{prefix}{key}" for key in network.shapes}
    return {key: tensor for key, tensor in state.items() if key not in own}


def _text_prefixes(network: ExpectedTensors, prefix: str) -> tuple[str, ...]:
    return (
        tuple(f"{clip_prefix(prefix)}{part}" for part in _TEXT_KEYS)
        if network.has_text and prefix.endswith(_IMAGE_TOWER)
        else ()
    )


def _translate_backbone(
    state: "State", network: ExpectedTensors, prefix: str, where: str
) -> "tuple[dict[str, torch.Tensor], list[str]]":
    """Returns the backbone under our keys, and the keys of absent integer tensors (filled with zeros)."""
    import torch

    result: dict[str, torch.Tensor] = {}
    missing, wrong, absent = [], [], []
    for key, shape in network.shapes.items():
        tensor = state.get(f"{prefix}{key}")
        if tensor is None and key in network.counters:
            absent.append(f"{prefix}{key}")
            tensor = torch.zeros(shape, dtype=network.counters[key])
        if tensor is None:
            missing.append(f"{prefix}{key}")
        elif tuple(tensor.shape) != shape:
            wrong.append((f"{prefix}{key}", shape, tuple(tensor.shape)))
        else:
            result[f"backbone.{key}"] = tensor
    problem = f"{where}: its weights do not fit {network.name}"
    if wrong:
        key, expected, found = wrong[0]
        more = f" (and {len(wrong) - 1} more tensors of other shapes)" if len(wrong) > 1 else ""
        raise DataError(
            problem, expected=f"{key!r} of shape {expected}", found=f"shape {found}{more}", next_step=_ADVICE
        )
    if missing:
        raise DataError(problem, expected=format_keys(missing), found="no such tensors", next_step=_ADVICE)
    return result, absent


def _find_head(rest: "State", network: ExpectedTensors, prefix: str, where: str) -> str | None:
    """Returns the classifier's module name among the tensors outside the backbone; None if there is none."""
    found = []
    for key in rest:
        module, _, last = key.rpartition(".")
        if last == "weight" and (module.removeprefix(prefix) in network.heads or module.split(".")[-1] in _HEADS):
            found.append(module)
    if len(found) > 1:
        raise DataError(f"{where}: has {len(found)} heads", expected="one classifier", found=format_keys(found))
    return found[0] if found else None


def missing_head_error(where: str, network: ExpectedTensors, has_text: bool) -> DataError:
    """Returns the error for a state without classifier."""
    advice = "put it into a pool, where a whole CLIP gets its zero-shot head: python main.py --model-location FOLDER"
    return DataError(
        f"{where}: has no classification head" + ("" if has_text else ", and no text tower to make one from"),
        expected=f"a linear layer of {network.features} features, such as `classification_head.weight`",
        next_step=advice if has_text else "give checkpoints of classifiers, or of a whole CLIP with its text tower",
    )


def _translate_head(
    weight: "torch.Tensor",
    bias: "torch.Tensor | None",
    network: ExpectedTensors,
    where: str,
    classes: Sequence[str] | None,
) -> "dict[str, torch.Tensor]":
    if weight.ndim == 4 and tuple(weight.shape[2:]) == (1, 1):  # Some of timm's classifiers are convolutions.
        weight = weight.flatten(1)
    rows = len(weight) if weight.ndim == 2 else 0
    if weight.ndim != 2 or weight.shape[1] != network.features or (bias is not None and tuple(bias.shape) != (rows,)):
        shapes = f"{tuple(weight.shape)}" + (f" with a bias {tuple(bias.shape)}" if bias is not None else "")
        expected = f"a weight (classes, {network.features}) and a bias (classes,)"
        raise DataError(f"{where} does not fit {network.name}", expected=expected, found=shapes, next_step=_ADVICE)
    if classes is not None and rows != len(classes):
        raise DataError(
            f"{where} does not fit its class list",
            expected=format_classes(classes),
            found=f"a head of shape {tuple(weight.shape)}, so {rows} classes",
            next_step="give the data that the model was trained for, or move the file out of the folder",
        )
    return {"head.weight": weight, "head.bias": weight.new_zeros(rows) if bias is None else bias}
