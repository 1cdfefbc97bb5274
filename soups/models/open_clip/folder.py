"""Reads folders in open_clip's hub layout: `open_clip_config.json` beside the weights of a CLIP."""

import json
from pathlib import Path
from typing import Any

from soups.core.errors import DataError, one_line

CLIP_CONFIG = "open_clip_config.json"
# In open_clip's order of preference; other files of the folder are not read.
WEIGHTS_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any], Path | None]:
    """Returns the `model_cfg`, the `preprocess_cfg` (empty if absent) and the weights file (None if absent).

    Raises:
        DataError: the folder or its configuration is missing, or not in open_clip's format.
    """
    path = folder / CLIP_CONFIG
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", expected=f"a folder with {CLIP_CONFIG} and weights")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", expected="open_clip's hub layout") from error
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path}: not readable JSON", found=one_line(error, 200)) from error
    config = content.get("model_cfg") if isinstance(content, dict) else None
    kinds = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}
    if not isinstance(config, dict) or any(not isinstance(config.get(key), kind) for key, kind in kinds.items()):
        raise DataError(f"{path}: not open_clip's", expected="`model_cfg` with embed_dim, vision_cfg and text_cfg")
    preprocess = content.get("preprocess_cfg") or {}
    if not isinstance(preprocess, dict):
        raise DataError(f"{path}: `preprocess_cfg` is not an object", found=repr(preprocess)[:60])
    weights = next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), None)
    return config, preprocess, weights


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
