"""Reads and writes folders in open_clip's hub layout, with the head beside it in `head.safetensors`.

open_clip has no classifier of images: logits = model.encode_image(images, normalize=True) @ weight.T + bias, with
weight (C, D) and bias (C,). Its models need a text tower, so the folder has the smallest possible one, all zeros.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.checkpoints.card import Card
from soups.checkpoints.checkpoint import read_state
from soups.files.atomic import write_json
from soups.models import heads
from soups.models.hub import HubFormat, save_tensors
from soups.models.open_clip.build import build_clip, image_tower_config, model_config
from soups.models.open_clip.names import CLIP_CONFIG, WEIGHTS_FILES
from soups.models.pretrained import select_prefix

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from soups.models.classifier import Classifier

CLIP_WEIGHTS = WEIGHTS_FILES[0]
HEAD_FILE = "head.safetensors"
_USAGE = """\
import open_clip
from PIL import Image
from safetensors.torch import load_file

# From the hub: "hf-hub:ORG/NAME", and huggingface_hub.hf_hub_download("ORG/NAME", "head.safetensors").
model, transform = open_clip.create_model_from_pretrained("local-dir:FOLDER")
head = load_file("FOLDER/head.safetensors")
features = model.eval().encode_image(transform(Image.open("IMAGE"))[None], normalize=True)
logits = features @ head["weight"].T + head["bias"]
"""
TEXT_PLACEHOLDER = {"context_length": 1, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1}
"""Configuration of the smallest text tower that open_clip builds."""


def _write(folder: Path, classifier: "Classifier", card: Card) -> None:
    """Writes weights, head and configuration (with preprocessing) into a folder.

    Raises:
        DataError: the installed open_clip does not know the architecture.
        EnvironmentFailure: the disk is full or the folder is not writable.
    """
    import torch

    own = model_config(card.architecture)
    config = {
        "embed_dim": own["embed_dim"],
        "quick_gelu": card.architecture.quick_gelu,
        "vision_cfg": image_tower_config(own),
        "text_cfg": TEXT_PLACEHOLDER,
    }
    whole = heads.seeded_build(lambda: build_clip(config), 0)
    state = {key: torch.zeros_like(tensor) for key, tensor in whole.state_dict().items()}
    state |= {f"visual.{key}": tensor for key, tensor in classifier.backbone.state_dict().items()}
    save_tensors(folder / CLIP_WEIGHTS, state)
    save_tensors(folder / HEAD_FILE, classifier.head.state_dict())
    preprocess = card.preprocessing.model_dump(include={"mean", "std", "interpolation"})
    preprocess["resize_mode"] = card.preprocessing.resize
    write_json(folder / CLIP_CONFIG, {"model_cfg": config, "preprocess_cfg": preprocess})


def _reference_logits(folder: Path, picture: "Image.Image") -> np.ndarray:
    """Returns (1, C) float32 logits of a picture, computed with open_clip and the head's file alone."""
    import open_clip
    import torch
    from safetensors.torch import load_file

    model, transform = heads.seeded_build(lambda: open_clip.create_model_from_pretrained(f"local-dir:{folder}"), 0)
    head = load_file(folder / HEAD_FILE)
    with torch.inference_mode():
        features = model.eval().encode_image(transform(picture)[None], normalize=True)
        return (features @ head["weight"].T + head["bias"]).numpy()


def _read(folder: Path, card: Card) -> "dict[str, torch.Tensor]":
    """Returns the state of a folder that this file wrote, under our keys.

    Raises:
        DataError: the folder's files are missing or damaged.
    """
    tower, head = select_prefix(read_state(folder / CLIP_WEIGHTS), "visual."), read_state(folder / HEAD_FILE)
    return {
        f"{part}.{key}": tensor for part, own in (("backbone", tower), ("head", head)) for key, tensor in own.items()
    }


CLIP_FORMAT = HubFormat(_write, _read, _reference_logits, (CLIP_CONFIG, CLIP_WEIGHTS, HEAD_FILE), _USAGE)
