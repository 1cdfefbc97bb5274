"""State dicts of other tools under our names: which tensors are the backbone's, which the head's, and what is dropped.

It knows the original model-soups code (Wortsman et al. 2022, github.com/mlfoundations/model-soups: `model.visual.*`,
`classification_head.*`), open_clip's and timm's own names, and any of them under prefixes such as `module.` or
`image_encoder.model.`: the backbone is found by the names of its tensors, wherever they are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError
from soups.models.build import build_without_storage
from soups.models.open_clip import names as clip_names
from soups.models.timm import build as timm_models
from soups.models.timm import names as timm_names

if TYPE_CHECKING:
    import torch

    State = Mapping[str, torch.Tensor]

_HEADS = ("classification_head", "head", "classifier", "fc", "linear")
_TOWER = "visual."
# Beside the image tower of a CLIP: the text tower and what joins the two.
_TEXT = (
    *("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", "logit_scale"),
    *("logit_bias", "attn_mask", "text.", "text_decoder."),
)
_ADVICE = "give the --model that these weights were made with, or move the file out of the folder"
_SHOWN = 4


@dataclass(frozen=True)
class ExpectedTensors:
    """What a checkpoint of an architecture must hold; small, and free of weights."""

    name: str
    """For messages."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of the backbone's tensors, by their own names, in the network's order."""
    counters: Mapping[str, "torch.dtype"]
    """Those that are whole numbers, which older files may lack."""
    features: int
    heads: tuple[str, ...]
    """What the classifier may be called."""
    has_text: bool
    """Whether files may have a text tower beside the backbone."""


@dataclass(frozen=True)
class TranslatedState:
    """A state under our names, and what was done to it, in words."""

    state: "dict[str, torch.Tensor]"
    """`backbone.*`, `head.weight` (C, D) and `head.bias` (C,), in the network's order; views of what was given."""
    notes: tuple[str, ...]


def expected_tensors(architecture: Architecture) -> ExpectedTensors:
    """What a checkpoint of this architecture must hold; nothing of its size is made.

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
    """A foreign state under our names.

    A text tower and left-over counters are dropped, absent counters and an absent bias are zero; the notes say so.

    Args:
        state: tensors by the file's names.
        network: what they must be.
        where: the file, for messages.
        classes: as many as the head must have rows; None: any number.
        head: `weight` (C, D) and `bias` (C,) for a state that has none of its own (a CLIP's zero-shot head).

    Raises:
        DataError: the state is not of this network, has an unknown tensor, no head or two; names the tensors.
    """
    prefix = backbone_prefix(state, network, where)
    notes = [f"`{prefix}*` is the backbone"] * bool(prefix)
    result, absent = _backbone(state, network, prefix, where)
    notes += [f"without {_listed(absent)}: zero"] * bool(absent)
    rest = _rest(state, network, prefix)
    text = [key for key in rest if key.startswith(_text_prefixes(network, prefix))]
    notes += [f"{len(text)} tensors of the text tower dropped"] * bool(text)
    rest = {key: tensor for key, tensor in rest.items() if key not in text}
    name = _head_name(rest, network, prefix, where)
    if name is None and head is None:
        raise missing_head_error(where, network, bool(text))
    weight = rest.pop(f"{name}.weight") if name is not None else (head or {})["weight"]
    bias = rest.pop(f"{name}.bias", None) if name is not None else (head or {})["bias"]
    result |= _head(weight, bias, network, f"{where}: its head", classes)
    notes += ["a head without bias: zero"] * (bias is None)
    return TranslatedState(result, (*notes, *_drop_counters(rest, network, where)))


def _drop_counters(rest: "State", network: ExpectedTensors, where: str) -> list[str]:
    """What to say of the tensors that are left: counters may be dropped, nothing else."""
    counters = [key for key, tensor in rest.items() if not tensor.is_floating_point()]
    if unknown := [key for key in rest if key not in counters]:
        raise DataError(
            f"{where}: unknown tensor {_listed(unknown)}",
            expected=f"the tensors of {network.name} and of one head ({', '.join(dict.fromkeys(network.heads))})",
            next_step=_ADVICE,
        )
    return [f"whole numbers dropped: {_listed(counters)}"] * bool(counters)


def backbone_prefix(state: "State", network: ExpectedTensors, where: str) -> str:
    """What the names of the backbone's tensors begin with in this state.

    Raises:
        DataError: hardly any of the backbone's tensors are there.
    """
    hits: Counter[str] = Counter()
    for key in state:
        begin = 0
        while begin >= 0:
            if key[begin:] in network.shapes:
                hits[key[:begin]] += 1
            begin = key.find(".", begin) + 1 or -1
    needed = len(network.shapes) - len(network.counters)
    # One network's layers may be a part of another's: the best match counts, the outermost where two are equal.
    prefix = max(hits, key=lambda candidate: (hits[candidate], -len(candidate)), default=None)
    if prefix is None or hits[prefix] < needed / 2:
        raise DataError(
            f"{where}: not a checkpoint of {network.name}",
            expected=f"its {len(network.shapes)} tensors, such as {_listed(list(network.shapes))}",
            found=_listed(list(state)) or "no tensors",
            next_step=_ADVICE,
        )
    return prefix


def text_tower_prefix(prefix: str) -> str:
    """What the names of a whole CLIP begin with where those of its image tower begin with `prefix`."""
    return prefix.removesuffix(_TOWER)


def lacks_head(state: "State", network: ExpectedTensors, where: str) -> bool:
    """Whether the state is one of this network, but without a classifier.

    Raises:
        DataError: it is not one of this network, or has two classifiers.
    """
    prefix = backbone_prefix(state, network, where)
    text = _text_prefixes(network, prefix)
    rest = {key: tensor for key, tensor in _rest(state, network, prefix).items() if not key.startswith(text)}
    return _head_name(rest, network, prefix, where) is None


def whole_clip(state: "State", network: ExpectedTensors, where: str) -> "dict[str, torch.Tensor]":
    """The tensors of both towers under open_clip's names, from a state without classifier.

    Raises:
        DataError: there is no text tower beside the image tower.
    """
    prefix = backbone_prefix(state, network, where)
    root, text = text_tower_prefix(prefix), _text_prefixes(network, prefix)
    towers = {key.removeprefix(root): tensor for key, tensor in state.items() if key.startswith((prefix, *text))}
    if not any("token_embedding." in key or key.startswith("text.") for key in towers):
        raise missing_head_error(where, network, False)
    return towers


def _rest(state: "State", network: ExpectedTensors, prefix: str) -> "dict[str, torch.Tensor]":
    """What is not of the backbone."""
    own = {f"{prefix}{key}" for key in network.shapes}
    return {key: tensor for key, tensor in state.items() if key not in own}


def _text_prefixes(network: ExpectedTensors, prefix: str) -> tuple[str, ...]:
    return (
        tuple(f"{text_tower_prefix(prefix)}{part}" for part in _TEXT)
        if network.has_text and prefix.endswith(_TOWER)
        else ()
    )


def _backbone(
    state: "State", network: ExpectedTensors, prefix: str, where: str
) -> "tuple[dict[str, torch.Tensor], list[str]]":
    """The backbone under our names, and the counters that were absent."""
    import torch

    result: dict[str, torch.Tensor] = {}
    lacking, wrong, absent = [], [], []
    for key, shape in network.shapes.items():
        tensor = state.get(f"{prefix}{key}")
        if tensor is None and key in network.counters:
            absent.append(f"{prefix}{key}")
            tensor = torch.zeros(shape, dtype=network.counters[key])
        if tensor is None:
            lacking.append(f"{prefix}{key}")
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
    if lacking:
        raise DataError(problem, expected=_listed(lacking), found="no such tensors", next_step=_ADVICE)
    return result, absent


def _head_name(rest: "State", network: ExpectedTensors, prefix: str, where: str) -> str | None:
    """The module among the other tensors that is the classifier; None where there is none."""
    found = []
    for key in rest:
        module, _, last = key.rpartition(".")
        if last == "weight" and (module.removeprefix(prefix) in network.heads or module.split(".")[-1] in _HEADS):
            found.append(module)
    if len(found) > 1:
        raise DataError(f"{where}: has {len(found)} heads", expected="one classifier", found=_listed(found))
    return found[0] if found else None


def missing_head_error(where: str, network: ExpectedTensors, has_text: bool) -> DataError:
    """The error for a state without classifier."""
    advice = "a whole CLIP gets its zero-shot head as a member of a pool: python main.py --model-location FOLDER"
    return DataError(
        f"{where}: has no classification head" + ("" if has_text else ", and no text tower to make one from"),
        expected=f"a linear layer of {network.features} features, such as `classification_head.weight`",
        next_step=advice if has_text else "give checkpoints of classifiers, or of a whole CLIP with its text tower",
    )


def _head(
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
        shown = ", ".join(list(classes)[:10]) + (", …" if len(classes) > 10 else "")
        raise DataError(
            f"{where} does not fit its class list",
            expected=f"{len(classes)} classes: {shown}",
            found=f"a head of shape {tuple(weight.shape)}, so {rows} classes",
            next_step="give the data that the model was trained for, or move the file out of the folder",
        )
    return {"head.weight": weight, "head.bias": weight.new_zeros(rows) if bias is None else bias}


def _listed(keys: Sequence[str]) -> str:
    shown = ", ".join(repr(key) for key in keys[:_SHOWN])
    return f"{shown} and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else shown
