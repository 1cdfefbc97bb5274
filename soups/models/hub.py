"""Model hubs: downloads through the libraries' own functions with a short timeout, and the layout of a folder."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from soups.core.errors import EnvironmentFailure, UserError, one_line
from soups.files.atomic import atomic_write

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from soups.checkpoints.card import Card
    from soups.models.classifier import Classifier

Result = TypeVar("Result")
SECONDS_TO_ANSWER = 5.0
_GIVE_A_FILE = "give a file with --pretrained FILE, or --pretrained none for random weights"


@dataclass(frozen=True)
class HubFormat:
    """The hub layout of one library."""

    write: "Callable[[Path, Classifier, Card], None]"
    """(folder, classifier, card): writes weights and configuration into an existing folder."""
    read: "Callable[[Path, Card], dict[str, torch.Tensor]]"
    """(folder, card) → the state under our keys."""
    reference_logits: "Callable[[Path, Image.Image], np.ndarray]"
    """(folder, picture) → (1, C) float32 logits, computed by the library alone."""
    files: tuple[str, ...]
    """Names of the files, configuration and weights."""
    usage: str
    """Python code that computes the logits of the picture IMAGE with the model in FOLDER."""


def save_tensors(path: Path, state: "Mapping[str, torch.Tensor]") -> None:
    """Writes a safetensors file as the libraries do, atomically.

    Raises:
        EnvironmentFailure: the disk is full or the folder is not writable.
    """
    from safetensors.torch import save_file

    with atomic_write(path) as temporary:
        tensors = {key: tensor.detach().contiguous() for key, tensor in state.items()}
        save_file(tensors, temporary, {"format": "pt"})


def fetch_from_hub(fetch: Callable[[], Result], what: str, next_step: str = _GIVE_A_FILE) -> Result:
    """Returns `fetch()`; uses only the hub's cache if the hub is unreachable or `HF_HUB_OFFLINE` is set.

    Args:
        fetch: a library's function that downloads, or reads its cache.
        what: what is fetched (weights of which architecture and tag), for the message.
        next_step: the next step of the message.

    Raises:
        EnvironmentFailure: it could not be fetched; the message says why and how to give a file.
    """
    from huggingface_hub import constants

    unreachable = _find_hub_problem()
    offline, logging_level = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    try:
        if unreachable:
            constants.HF_HUB_OFFLINE = True
            logging.disable(logging.ERROR)  # The libraries also log the failure that our message reports.
        return fetch()
    except (MemoryError, UserError):  # UserError: the content was fetched, but is not valid.
        raise
    except Exception as error:
        # Each library, and each of its layers, raises its own exception classes.
        own = one_line(error)
        found = own if isinstance(error, ImportError) else unreachable or own
        raise EnvironmentFailure(
            f"could not fetch {what}",
            expected="a reachable model hub, or the files in its cache",
            found=found,
            next_step=next_step,
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
        logging.disable(logging_level)


def _find_hub_problem() -> str:
    """Returns why the hub does not answer, or an empty text. The hub's own client retries for most of a minute."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception as error:
        return one_line(error)
    return ""
