"""What `scripts/push_to_hub.py` does: a model in a folder that timm or open_clip loads, and on the hub if asked."""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.checkpoints.card import Card
from soups.cli import flags as cli
from soups.core.errors import DataError, EnvironmentFailure, UsageError
from soups.core.preprocessing import normalise
from soups.data.images.geometry import evaluation_geometry, resize_and_crop
from soups.files.atomic import explain_write_errors, sha256_of, sync_folder, write_text
from soups.models.hub_folder import HUB_PREFIX, find_format, write_hub_folder
from soups.pipeline.run.run import Run
from soups.pipeline.score.select_model import load_selected, select_model
from soups.pipeline.settings.delivery import PushSettings
from soups.report.model_card import model_card

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

logger = logging.getLogger(__name__)

README = "README.md"
TOLERANCE = 1e-5
"""The largest difference of a logit that is allowed, as a part of the largest logit, or of 1 if that is smaller."""


def push_to_hub(given: cli.ParsedSettings[PushSettings]) -> None:
    """Write the folder, and push it where that is asked for; prints the folder, or where it was pushed to.

    Raises:
        UsageError: no folder or repository, no such model, or a folder with other content.
        DataError: no library has such a network, or it gives other logits; nothing is written then.
        EnvironmentFailure: nobody is logged in, the hub refuses, or the folder cannot be written.
    """
    settings = given.settings
    repository = _destination(settings)
    if settings.folder is None:
        raise UsageError("--folder is missing", expected="the folder to write: --folder DIR")
    path, run = select_model(settings, given.names, settings.model_name)
    classifier, card = load_selected(path, run)
    if card.preprocessing.cut is not None:
        logger.warning(
            "%s looks at the middle of an image alone (%d × %d pixels), which neither timm nor open_clip cuts out; "
            "README.md says so",
            path.stem,
            *card.preprocessing.cut,
        )
    folder = Path(settings.folder)
    with _fresh(folder) as fresh:
        write_hub_folder(fresh, classifier, card, str(path))
        _check(fresh, classifier, card, str(path))
        write_text(fresh / README, _readme(path, card, run))
        _settle(fresh, folder)
    if repository is None:
        print(folder)
    else:
        print(_push(folder, repository, settings.private, path.stem))


def _destination(settings: PushSettings) -> str | None:
    """Where to push to; None where nothing is pushed."""
    from huggingface_hub import get_token

    repository = settings.repository
    if repository is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", repository.removeprefix(HUB_PREFIX)):
        raise UsageError(f"--repository {repository}: not a name on the hub", expected="org/name")
    if not settings.push:
        return None
    if repository is None:
        raise UsageError("--push without --repository", expected="where to push to: --repository org/name")
    if get_token() is None:
        raise EnvironmentFailure(
            "--push: nobody is logged in to the Hugging Face hub",
            expected="a token that may write, saved or in HF_TOKEN",
            next_step="log in: hf auth login; or set HF_TOKEN; without --push the folder alone is written",
        )
    return repository.removeprefix(HUB_PREFIX)


def _check(folder: Path, classifier: "Classifier", card: Card, where: str) -> None:
    """Raise unless the library alone, its preprocessing included, gives the model's logits of a picture."""
    import torch
    from PIL import Image

    form, preprocessing = find_format(card, where), card.preprocessing.model_copy(update={"cut": None})
    sides = (round(1.4 * preprocessing.resized), round(1.7 * preprocessing.resized), 3)
    pixels = np.random.default_rng(0).integers(0, 256, sides, dtype=np.uint8)
    inputs = torch.from_numpy(resize_and_crop(pixels, evaluation_geometry(preprocessing)))[None]
    with torch.inference_mode():
        wanted = classifier(normalise(inputs, preprocessing)).numpy()
    try:
        found = form.answers(folder, Image.fromarray(pixels))
    except Exception as error:  # Whatever a library raises, it does not load what was written for it.
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"{where}: {form.library} does not load its folder; it is not written", found=told) from error
    allowed = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
    largest = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else np.inf
    if not largest <= allowed:
        raise DataError(
            f"{where}: {form.library} gives other logits than the model; the folder is not written",
            expected=f"differences of at most {allowed:.2g}",
            found=f"{largest:.2g}",
        )
    logger.info(
        "%s alone gives the same logits: largest difference %.2g (allowed: %.2g)", form.library, largest, allowed
    )


def _readme(path: Path, card: Card, run: Run | None) -> str:
    form, sha256 = find_format(card, str(path)), sha256_of(path)
    scores, images = dict(card.scores), {}
    if run is not None:
        for log in (run.individual_results, run.soup_results):
            line = run.results(log).get(path.stem, {})
            scores |= line["metrics"] if line.get("sha256") == sha256 else {}
        counted = run.samples["split"].value_counts()
        images = {str(name): int(count) for name, count in counted.items()}
    return model_card(path.stem, card, sha256, library=form.library, usage=form.usage, scores=scores, images=images)


@contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    """A new folder beside the one that is to be written, which is gone when the block ends."""
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with explain_write_errors(folder):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _settle(fresh: Path, folder: Path) -> None:
    """Make the fresh folder be the one that is asked for, unless that says the same already.

    Raises:
        UsageError: it has other content. A README.md that somebody has changed (to say the licence) is no such.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--folder {folder}: a file", expected="a folder, or a name that is not taken")
    present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    if not present:
        with explain_write_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)  # Empty, or not there.
            fresh.rename(folder)
            sync_folder(folder.parent)
        return
    wanted = {path.name: path for path in fresh.iterdir()}
    others = sorted(set(present) - set(wanted))
    missing = sorted(set(wanted) - set(present))
    changed = [
        name for name in sorted(set(wanted) & set(present)) if sha256_of(wanted[name]) != sha256_of(present[name])
    ]
    if others or missing or set(changed) - {README}:
        told = [f"also {', '.join(others[:5])}"] * bool(others) + [f"no {', '.join(missing)}"] * bool(missing)
        told += [f"another {', '.join(changed)}"] * bool(changed)
        raise UsageError(
            f"--folder {folder}: has other content",
            expected="a folder that is empty or not there, or one that this command wrote for this model",
            found="; ".join(told),
            next_step="choose another --folder, or remove that one",
        )
    if changed:
        logger.info("%s: was changed since it was written, and stays as it is", folder / README)


def _push(folder: Path, repository: str, private: bool, name: str) -> str:
    """Push a folder; returns its address."""
    from huggingface_hub import HfApi

    api = HfApi(library_name="soups")
    try:
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"{name}, by soups")
    except Exception as error:  # Each layer of the client raises its own kind.
        raise EnvironmentFailure(
            f"--push: could not push to {repository}",
            expected="the hub within reach, and a token that may write there",
            found=" ".join(str(error).split())[:300] or type(error).__name__,
            next_step=f"{folder} is written; run the same command again when that is mended",
        ) from error
    return str(address)
