"""Downloads public weights through the libraries' own functions, with a short timeout when there is no network."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from soups.core.errors import EnvironmentFailure, UserError, one_line

Result = TypeVar("Result")
SECONDS_TO_ANSWER = 5.0


_GIVE_A_FILE = "give a file with --pretrained FILE, or --pretrained none for random weights"


def fetch_from_hub(fetch: Callable[[], Result], what: str, next_step: str = _GIVE_A_FILE) -> Result:
    """Returns `fetch()`; uses only the hub's cache if the hub is unreachable or `HF_HUB_OFFLINE` is set.

    Args:
        fetch: a library's function that downloads, or reads its cache.
        what: what is fetched (weights of which architecture and tag), for the message.
        next_step: the next step of the message.

    Raises:
        EnvironmentFailure: it could not be fetched; the message says why and how to give a file.
    """
    unreachable = _find_hub_problem()
    try:
        with _offline_hub() if unreachable else nullcontext():
            return fetch()
    except (MemoryError, KeyboardInterrupt, UserError):  # UserError: the content was fetched, but is not valid.
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


def _find_hub_problem() -> str:
    """Returns why the hub does not answer, or an empty text. The hub's own client retries for most of a minute."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception as error:
        return one_line(error)
    return ""


@contextmanager
def _offline_hub() -> Iterator[None]:
    """Restricts the hub's client to its cache within the block."""
    from huggingface_hub import constants

    before, level = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    constants.HF_HUB_OFFLINE = True
    logging.disable(logging.ERROR)  # The libraries also log the failure that our message reports.
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.disable(level)
