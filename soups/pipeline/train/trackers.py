"""Weights & Biases as an optional second log; the run's own JSONL logs remain the record."""

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from soups.core.errors import EnvironmentFailure


class Tracker:
    """Second log of a fine-tune's epochs and figures.

    Args:
        run: a Weights & Biases run; None: everything is discarded.
    """

    def __init__(self, run: Any = None) -> None:
        self.run = run

    def log(self, line: dict[str, Any]) -> None:
        """Log the line of one epoch."""
        if self.run is not None:
            self.run.log(line, step=line["epoch"])

    def show(self, files: Sequence[Path]) -> None:
        """Log figures (PNG) and pages (HTML), each under its file's name."""
        if self.run is not None:
            import wandb

            kinds: dict[str, Any] = {".png": wandb.Image, ".html": wandb.Html}
            self.run.log({file.stem: kinds[file.suffix](str(file)) for file in files})

    def close(self) -> None:
        """End the log of this fine-tune after its lines are stored."""
        if self.run is not None:
            self.run.finish()


def open_tracker(mode: str, project: str, name: str, settings: dict[str, Any]) -> Tracker:
    """Returns the tracker of a mode: `disabled`, `offline` or `online`; if the flag is not given, `WANDB_MODE` decides.

    Raises:
        EnvironmentFailure: online without a login, or the service cannot be reached.
    """
    mode = os.environ.get("WANDB_MODE", mode) if mode == "disabled" else mode
    if mode in ("disabled", "dryrun"):
        return Tracker()
    import wandb

    if mode == "online":
        _require_key()
    options: dict[str, Any] = {"mode": mode, "settings": wandb.Settings(silent=True)}
    try:
        return Tracker(wandb.init(project=project, name=name, config=settings, **options))
    except (wandb.errors.Error, OSError) as error:
        raise EnvironmentFailure(
            f"--wandb {mode}: Weights & Biases could not be started",
            found=str(error).splitlines()[0],
            next_step="log in with `wandb login`, or use --wandb offline or disabled",
        ) from error


def log_figures(mode: str, project: str, name: str, files: Sequence[Path]) -> None:
    """Log figures and pages as a separate Weights & Biases run; see `open_tracker`."""
    with closing(open_tracker(mode, project, name, {})) as tracker:
        tracker.show(files)


def _require_key() -> None:
    """Raise an error without a login, before wandb asks for the key at a prompt."""
    import wandb
    from requests.utils import get_netrc_auth

    settings = wandb.Settings()
    if not settings.api_key and get_netrc_auth(settings.base_url) is None:
        raise EnvironmentFailure(
            "--wandb online: not logged in to Weights & Biases",
            next_step="run `wandb login` once, or use --wandb offline",
        )
