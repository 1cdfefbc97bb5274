"""Fetching public weights through the libraries' own functions, without waiting long where there is no network."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from soups.core.errors import EnvironmentFailure, UserError

Result = TypeVar("Result")
SECONDS_TO_ANSWER = 5.0


_GIVE_A_FILE = "give a file with --pretrained FILE, or --pretrained none for random weights"


def fetch_from_hub(fetch: Callable[[], Result], what: str, next_step: str = _GIVE_A_FILE) -> Result:
    """What `fetch` returns; where the hub is out of reach (or `HF_HUB_OFFLINE` is set), only its cache is used.

    Args:
        fetch: a library's function that downloads, or finds in its cache.
        what: what is fetched (weights of which architecture and tag), for the message.
        next_step: what to do where it cannot be.

    Raises:
        EnvironmentFailure: it could not be fetched; says what was tried and how to give a file.
    """
    unreachable = _hub_problem()
    try:
        with _offline_hub() if unreachable else _as_it_is():
            return fetch()
    except (MemoryError, KeyboardInterrupt, UserError):  # The last: what was fetched is not what it should be.
        raise
    except Exception as error:
        # Each library and each of their layers raises its own kind.
        own = " ".join(str(error).split())[:300] or type(error).__name__
        found = own if isinstance(error, ImportError) else unreachable or own
        raise EnvironmentFailure(
            f"could not fetch {what}",
            expected="the model hub within reach, or the files in its cache",
            found=found,
            next_step=next_step,
        ) from error


def _hub_problem() -> str:
    """Why the model hub does not answer, or nothing. The hub's own client would try for most of a minute."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception as error:
        return " ".join(str(error).split())[:300] or type(error).__name__
    return ""


@contextmanager
def _offline_hub() -> Iterator[None]:
    from huggingface_hub import constants

    before, level = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    constants.HF_HUB_OFFLINE = True
    logging.disable(logging.ERROR)  # The libraries log the failure that our message tells.
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.disable(level)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield
