"""Reads and writes folders in timm's hub layout: `config.json` and `model.safetensors`, which timm alone loads."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.checkpoints.card import Architecture, Card
from soups.checkpoints.checkpoint import read_state
from soups.core.errors import DataError
from soups.core.preprocessing import Preprocessing
from soups.files.atomic import atomic_write, write_json
from soups.models import heads
from soups.models.pretrained import check_fit
from soups.models.timm import build as timm_models
from soups.models.timm import constructor as timm_build

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from soups.models.classifier import Classifier

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
LIBRARY = "timm"
USAGE = """\
import timm
from PIL import Image

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # From the hub: "hf-hub:ORG/NAME".
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
logits = model(transform(Image.open("IMAGE").convert("RGB"))[None])
"""


def write(folder: Path, classifier: "Classifier", card: Card) -> None:
    """Writes weights and configuration (with classes and preprocessing) into a folder.

    Raises:
        DataError: timm's network has no linear classifier.
        EnvironmentFailure: the disk is full or the folder is not writable.
    """
    from safetensors.torch import save_file

    architecture, where = card.architecture, f"{timm_models.PREFIX}{card.architecture.name}"
    model = heads.seeded_build(
        lambda: timm_build.build(architecture.name, architecture.arguments, classes=len(card.classes)), 0
    )
    state = _join_state(model, classifier, where)
    check_fit(model, state, where, f"{where} with a classifier")
    with atomic_write(folder / WEIGHTS_FILE) as temporary:
        save_file({key: tensor.detach().contiguous() for key, tensor in state.items()}, temporary, {"format": "pt"})
    write_json(folder / CONFIG_FILE, _make_config(model, card))


def _join_state(model: Any, classifier: "Classifier", where: str) -> "dict[str, torch.Tensor]":
    """Returns a state for timm's network with our head as its classifier (as both, if the network averages two)."""
    names, head = timm_models.classifier_names(model), classifier.head.state_dict()
    own = model.state_dict()
    keys = [key for key in own if key.rpartition(".")[0] in names]
    if not keys or any(own[key].numel() != head[key.rpartition(".")[2]].numel() for key in keys):
        found = ", ".join(f"{key} {tuple(own[key].shape)}" for key in keys) or "none"
        raise DataError(f"{where}: its classifier is not linear", expected="weight (C, D) and bias (C,)", found=found)
    # Copies, because safetensors refuses tensors that share memory.
    filled = {key: head[key.rpartition(".")[2]].reshape(own[key].shape).clone() for key in keys}
    return {**classifier.backbone.state_dict(), **filled}


def _make_config(model: Any, card: Card) -> dict[str, Any]:
    """Returns timm's `config.json` for a network with the card's classes and preprocessing."""
    # timm has no public name for this; its own `push_to_hf_hub` calls it.
    from timm.models._hub import save_config_for_hf

    with TemporaryDirectory() as folder:
        path = Path(folder) / CONFIG_FILE
        save_config_for_hf(
            model,
            str(path),
            model_config={"label_names": list(card.classes)},
            data_config=_make_data_config(card.preprocessing),
        )
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for start_field in ("license", "origin_url", "paper_ids", "paper_name", "tag"):
        config["pretrained_cfg"].pop(start_field, None)
    return config


def _make_data_config(preprocessing: Preprocessing) -> dict[str, Any]:
    """Returns timm's data configuration for a preprocessing."""
    size, resized = preprocessing.size, preprocessing.resized
    fraction = size / resized
    return {
        "input_size": (3, size, size),
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "interpolation": preprocessing.interpolation,
        "crop_mode": "squash" if preprocessing.resize == "squash" else "center",
        # timm rounds the resized side down.
        "crop_pct": fraction if math.floor(size / fraction) == resized else size / (resized + 0.5),
    }


def reference_logits(folder: Path, picture: "Image.Image") -> np.ndarray:
    """Returns (1, C) float32 logits of a picture, with preprocessing and network of timm alone."""
    import timm
    import timm.data
    import torch

    model = heads.seeded_build(lambda: timm.create_model(f"local-dir:{folder}", pretrained=True), 0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        return model(transform(picture.convert("RGB"))[None]).numpy()


def read(folder: Path, card: Card) -> "dict[str, torch.Tensor]":
    """Returns the state of a folder that `write` wrote, under our keys.

    Raises:
        DataError: the folder's files are missing or damaged.
    """
    config = _read_config(folder)
    return _split_state(read_state(folder / WEIGHTS_FILE), _read_classifier_names(config), str(folder / WEIGHTS_FILE))


def read_foreign_folder(folder: Path) -> "tuple[dict[str, torch.Tensor], Card]":
    """Returns the state of a folder that timm wrote, under our keys, and a card made from its configuration.

    Classes without names are named by their index.

    Raises:
        DataError: timm cannot load it, or it is not a linear classifier with a supported preprocessing.
    """
    import timm

    config = _read_config(folder)
    try:
        model = heads.seeded_build(lambda: timm.create_model(f"local-dir:{folder}", pretrained=True), 0)
    except Exception as error:  # A configuration may have any content, so timm may raise any exception.
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{folder}: timm cannot load it", found=found) from error
    state = _split_state(model.state_dict(), timm_models.classifier_names(model), str(folder))
    card = Card(
        kind="fine-tune",
        architecture=Architecture(
            family=timm_models.FAMILY, name=config["architecture"], arguments=_read_arguments(config)
        ),
        classes=_read_classes(config, len(state["head.weight"]), folder),
        preprocessing=timm_models.evaluation_preprocessing(model),
    )
    return state, card


def _read_config(folder: Path) -> dict[str, Any]:
    """Returns the folder's `config.json`; raises DataError if it is missing or has no `architecture`."""
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config["architecture"], str):
            return config
        found = repr(config["architecture"])
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", expected="timm's hub layout") from error
    except (ValueError, OSError, RecursionError, KeyError, TypeError) as error:
        found = " ".join(str(error).split())[:200]
    raise DataError(f"{path}: not timm's", expected="JSON with `architecture` and `pretrained_cfg`", found=found)


def _read_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the constructor arguments without the numbers of classes and channels, which we set."""
    arguments = config.get("model_args") or {}
    return {key: value for key, value in arguments.items() if key not in {"num_classes", "in_chans"}}


def _read_classifier_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the module names of the classifier."""
    names = (config.get("pretrained_cfg") or config).get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(map(str, names))


def _split_state(state: "Mapping[str, torch.Tensor]", names: Sequence[str], where: str) -> "dict[str, torch.Tensor]":
    """Returns a network's state under our keys: `backbone.*`, `head.weight` (C, D), `head.bias` (C,).

    Args:
        state: timm's state with classifier.
        names: modules of the classifier.
        where: the file, for messages.

    Raises:
        DataError: the state has no classifier, or several different ones.
    """
    import torch

    weights = [state[f"{name}.weight"] for name in names if f"{name}.weight" in state]
    if not weights:
        raise DataError(f"{where}: has no classifier", expected="a network with a classifier")
    weight = weights[0].flatten(1)
    biases = [state.get(f"{name}.bias", torch.zeros(len(weight))) for name in names]
    if any(not torch.equal(other.flatten(1), weight) for other in weights) or any(
        not torch.equal(other, biases[0]) for other in biases
    ):
        raise DataError(f"{where}: has several classifiers", expected="one linear classifier", found=", ".join(names))
    backbone = {f"backbone.{k}": tensor for k, tensor in state.items() if k.rpartition(".")[0] not in names}
    return {**backbone, "head.weight": weight, "head.bias": biases[0]}


def _read_classes(config: Mapping[str, Any], count: int, folder: Path) -> tuple[str, ...]:
    """Returns the class names of the configuration, or indices; raises DataError unless there are `count`."""
    names = config.get("label_names") or (config.get("pretrained_cfg") or {}).get("label_names")
    if isinstance(names, Mapping):
        names = [names.get(str(index), str(index)) for index in range(count)]
    if names is None:
        return tuple(map(str, range(count)))
    if not isinstance(names, list) or len(names) != count:
        found = f"{len(names)}" if isinstance(names, list) else repr(names)[:60]
        raise DataError(f"{folder / CONFIG_FILE}: `label_names`", expected=f"{count} names of classes", found=found)
    return tuple(map(str, names))
