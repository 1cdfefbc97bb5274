"""Reads and writes folders in timm's hub layout: `config.json` and `model.safetensors`, which timm alone loads."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.checkpoints.card import Architecture, Card
from soups.checkpoints.checkpoint import read_state
from soups.core.errors import DataError, one_line
from soups.files.atomic import write_json
from soups.models import heads
from soups.models.foreign.state_dict import expected_tensors, translate_state
from soups.models.hub import HubFormat, save_tensors
from soups.models.pretrained import check_fit
from soups.models.timm.build import evaluation_preprocessing
from soups.models.timm.constructor import build
from soups.models.timm.names import PREFIX, TIMM, classifier_names, read_folder_config

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from soups.models.classifier import Classifier

TIMM_CONFIG = "config.json"
TIMM_WEIGHTS = "model.safetensors"
_USAGE = """\
import timm
from PIL import Image

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # From the hub: "hf-hub:ORG/NAME".
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
logits = model(transform(Image.open("IMAGE").convert("RGB"))[None])
"""


def _write(folder: Path, classifier: "Classifier", card: Card) -> None:
    """Writes weights and configuration (with classes and preprocessing) into a folder.

    Raises:
        DataError: timm's network has no linear classifier.
        EnvironmentFailure: the disk is full or the folder is not writable.
    """
    architecture, where = card.architecture, f"{PREFIX}{card.architecture.name}"
    model = heads.seeded_build(lambda: build(architecture.name, architecture.arguments, classes=len(card.classes)), 0)
    state = _join_state(model, classifier, where)
    check_fit(model, state, where, f"{where} with a classifier")
    save_tensors(folder / TIMM_WEIGHTS, state)
    write_json(folder / TIMM_CONFIG, _make_config(model, card))


def _join_state(model: Any, classifier: "Classifier", where: str) -> "dict[str, torch.Tensor]":
    """Returns a state for timm's network with our head as its classifier (as both, if the network averages two)."""
    names, head = classifier_names(model.pretrained_cfg), classifier.head.state_dict()
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

    preprocessing = card.preprocessing
    size, resized = preprocessing.size, preprocessing.resized
    fraction = size / resized
    data_config = {
        "input_size": (3, size, size),
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "interpolation": preprocessing.interpolation,
        "crop_mode": "squash" if preprocessing.resize == "squash" else "center",
        # timm rounds the resized side down.
        "crop_pct": fraction if math.floor(size / fraction) == resized else size / (resized + 0.5),
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / TIMM_CONFIG
        save_config_for_hf(model, str(path), {"label_names": list(card.classes)}, data_config=data_config)
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for start_field in ("license", "origin_url", "paper_ids", "paper_name", "tag"):
        config["pretrained_cfg"].pop(start_field, None)
    return config


def _reference_logits(folder: Path, picture: "Image.Image") -> np.ndarray:
    """Returns (1, C) float32 logits of a picture, with preprocessing and network of timm alone."""
    import timm
    import timm.data
    import torch

    model = heads.seeded_build(lambda: timm.create_model(f"local-dir:{folder}", pretrained=True), 0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        return model(transform(picture.convert("RGB"))[None]).numpy()


def _read(folder: Path, card: Card) -> "dict[str, torch.Tensor]":
    """Returns the state of a folder that this file wrote, under our keys.

    Raises:
        DataError: the folder's files are missing or damaged.
    """
    config, *_ = read_folder_config(folder, f"{folder / TIMM_CONFIG}: not timm's")
    path, names = folder / TIMM_WEIGHTS, classifier_names(config)
    return _split_state(read_state(path), names, card.architecture, str(path))


def read_foreign_folder(folder: Path) -> "tuple[dict[str, torch.Tensor], Card]":
    """Returns the state of a folder that timm wrote, under our keys, and a card made from its configuration.

    Classes without names are named by their index.

    Raises:
        DataError: timm cannot load it, or it is not a linear classifier with a supported preprocessing.
    """
    import timm

    config, name, arguments = read_folder_config(folder, f"{folder / TIMM_CONFIG}: not timm's")
    try:
        model = heads.seeded_build(lambda: timm.create_model(f"local-dir:{folder}", pretrained=True), 0)
    except Exception as error:  # A configuration may have any content, so timm may raise any exception.
        found = one_line(error, 200)
        raise DataError(f"{folder}: timm cannot load it", found=found) from error
    architecture = Architecture(family=TIMM, name=name, arguments=arguments)
    names = classifier_names(model.pretrained_cfg)
    state = _split_state(model.state_dict(), names, architecture, str(folder))
    card = Card(
        kind="fine-tune",
        architecture=architecture,
        classes=_read_classes(config, len(state["head.weight"]), folder),
        preprocessing=evaluation_preprocessing(model),
    )
    return state, card


def _split_state(
    state: "dict[str, torch.Tensor]", names: tuple[str, ...], architecture: Architecture, where: str
) -> "dict[str, torch.Tensor]":
    """Returns a network's state under our keys: `backbone.*`, `head.weight` (C, D), `head.bias` (C,).

    Args:
        state: timm's state with classifier.
        names: modules of the classifier; a distilled network averages two.
        architecture: the network.
        where: the file, for messages.

    Raises:
        DataError: the state has no classifier, several different ones, or does not fit the architecture.
    """
    import torch

    others = {key: f"{names[0]}.{key.rpartition('.')[2]}" for key in state if key.rpartition(".")[0] in names[1:]}
    if any(first not in state or not torch.equal(state[key], state[first]) for key, first in others.items()):
        raise DataError(f"{where}: has several classifiers", expected="one linear classifier", found=", ".join(names))
    single = {key: tensor for key, tensor in state.items() if key not in others}
    return translate_state(single, expected_tensors(architecture), where).state


def _read_classes(config: Mapping[str, Any], count: int, folder: Path) -> tuple[str, ...]:
    """Returns the class names of the configuration, or indices; raises DataError unless there are `count`."""
    names = config.get("label_names") or {}
    if isinstance(names, Mapping):
        names = [names.get(str(index), index) for index in range(count)]
    if not isinstance(names, list) or len(names) != count:
        found = f"{len(names)}" if isinstance(names, list) else repr(names)[:60]
        raise DataError(f"{folder / TIMM_CONFIG}: `label_names`", expected=f"{count} names of classes", found=found)
    return tuple(map(str, names))


TIMM_FORMAT = HubFormat(_write, _read, _reference_logits, (TIMM_CONFIG, TIMM_WEIGHTS), _USAGE)
