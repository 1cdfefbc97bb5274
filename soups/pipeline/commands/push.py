"""The command `push_to_hub`: writes a model as a folder that timm or open_clip loads, and uploads it with `--push`."""

import filecmp
import logging
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from soups.checkpoints.card import Card
from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, EnvironmentFailure, UsageError, one_line
from soups.core.preprocessing import normalise
from soups.data.images.geometry import evaluation_geometry, resize_and_crop
from soups.files.atomic import explain_write_errors, make_folder, sha256_of, sync_folder, write_text
from soups.models.hub_folder import HUB_PREFIX, find_format, write_hub_folder
from soups.pipeline.commands.export import check_logits
from soups.pipeline.run.run import Run
from soups.pipeline.score.select_model import load_selected, select_model
from soups.pipeline.settings.delivery import PushSettings
from soups.report.model_card import model_card

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

logger = logging.getLogger(__name__)

README = "README.md"
TOLERANCE = 1e-5
"""Largest allowed difference of a logit, relative to the largest logit (at least 1)."""


def push_to_hub(parsed: ParsedSettings[PushSettings]) -> None:
    """Write the folder and upload it with `--push`; prints the folder, or the address of the repository.

    Raises:
        UsageError: Folder or repository is missing, the model does not exist, or the folder has other content.
        DataError: No library has such a network, or the library gives different logits; nothing is written then.
        EnvironmentFailure: There is no login, the hub refuses the upload, or the folder cannot be written.
    """
    settings = parsed.settings
    repository = _target_repository(settings)
    if settings.folder is None:
        raise UsageError("--folder is missing", expected="the folder to write: --folder DIR")
    path, run = select_model(settings, parsed.names, settings.model_name)
    classifier, card = load_selected(path, run)
    if card.preprocessing.cut is not None:
        message = "%s uses only the middle %d × %d pixels of an image; timm and open_clip do not: see its README.md"
        logger.warning(message, path.stem, *card.preprocessing.cut)
    folder = Path(settings.folder)
    with explain_write_errors(folder):
        make_folder(folder.parent)
        outer = TemporaryDirectory(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent)
    with outer as name:
        temporary = Path(name) / "model"
        temporary.mkdir()
        write_hub_folder(temporary, classifier, card, str(path))
        _verify_folder(temporary, classifier, card, str(path))
        write_text(temporary / README, _model_card_text(path, card, run))
        _move_into_place(temporary, folder)
    print(folder if repository is None else _upload(folder, repository, settings.private, path.stem))


def _target_repository(settings: PushSettings) -> str | None:
    """Return the repository to upload to; None without `--push`."""
    from huggingface_hub import get_token

    repository = settings.repository
    if repository is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", repository.removeprefix(HUB_PREFIX)):
        raise UsageError(f"--repository {repository}: not a name on the hub", expected="org/name")
    if not settings.push:
        return None
    if repository is None:
        raise UsageError("--push without --repository", expected="the repository: --repository org/name")
    if get_token() is None:
        raise EnvironmentFailure(
            "--push: not logged in to the Hugging Face hub",
            expected="a token with write access, saved or in HF_TOKEN",
            next_step="run hf auth login, or set HF_TOKEN; without --push only the folder is written",
        )
    return repository.removeprefix(HUB_PREFIX)


def _verify_folder(folder: Path, classifier: "Classifier", card: Card, where: str) -> None:
    """Check that the library alone, with its own preprocessing, gives the model's logits of a picture.

    Raises:
        DataError: The library cannot load the folder, or the logits differ.
    """
    import torch
    from PIL import Image

    library, preprocessing = card.architecture.family, card.preprocessing.model_copy(update={"cut": None})
    shape = (round(1.4 * preprocessing.resized), round(1.7 * preprocessing.resized), 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    inputs = torch.from_numpy(resize_and_crop(pixels, evaluation_geometry(preprocessing)))[None]
    with torch.inference_mode():
        expected = classifier(normalise(inputs, preprocessing)).numpy()
    try:
        found = find_format(card, where).reference_logits(folder, Image.fromarray(pixels))
    except Exception as error:  # The libraries raise many kinds of exceptions.
        problem = f"{where}: {library} cannot load the folder; it is not written"
        raise DataError(problem, found=one_line(error)) from error
    problem = f"{where}: {library} gives other logits than the model; the folder is not written"
    figures = check_logits([(expected, found)], TOLERANCE, problem)
    logger.info("%s alone gives the same logits: largest difference %.2g (allowed: %.2g)", library, *figures)


def _model_card_text(path: Path, card: Card, run: Run | None) -> str:
    form, sha256 = find_format(card, str(path)), sha256_of(path)
    scores, images = dict(card.scores), {}
    if run is not None:
        for log in (run.individual_results, run.soup_results):
            line = run.results(log).get(path.stem, {})
            scores |= line["metrics"] if line.get("sha256") == sha256 else {}
        images = {str(name): int(count) for name, count in run.samples["split"].value_counts().items()}
    return model_card(
        path.stem, card, sha256, library=card.architecture.family, usage=form.usage, scores=scores, images=images
    )


def _move_into_place(temporary: Path, folder: Path) -> None:
    """Move the temporary folder to its final place, unless the final folder has the same content.

    Raises:
        UsageError: The folder has other content. A changed README.md (for example with a licence) is allowed.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--folder {folder}: is a file", expected="a folder, or a path that does not exist")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if not present:
        with explain_write_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)  # The folder is empty or does not exist.
            temporary.rename(folder)
            sync_folder(folder.parent)
        return
    written = {path.name for path in temporary.iterdir()}
    _, changed, unreadable = filecmp.cmpfiles(temporary, folder, sorted(written & present), shallow=False)
    differing, missing, extra = sorted(changed + unreadable), sorted(written - present), sorted(present - written)
    if extra or missing or differing not in ([], [README]):
        lists = {"extra": extra[:5], "missing": missing, "changed": differing}
        raise UsageError(
            f"--folder {folder}: has other content",
            expected="an empty or new folder, or one that this command wrote for this model",
            found="; ".join(f"{kind}: {', '.join(names)}" for kind, names in lists.items() if names),
            next_step="choose another --folder, or remove that one",
        )
    if changed:
        logger.info("%s: changed since it was written; left unchanged", folder / README)


def _upload(folder: Path, repository: str, private: bool, name: str) -> str:
    """Upload a folder; returns the repository's address."""
    from huggingface_hub import HfApi

    api = HfApi(library_name="soups")
    try:
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"{name}, by soups")
    except Exception as error:  # The client's layers raise many kinds of exceptions.
        raise EnvironmentFailure(
            f"--push: could not push to {repository}",
            expected="a reachable hub and a token with write access",
            found=one_line(error),
            next_step=f"{folder} is written; fix the cause and run the same command again",
        ) from error
    return str(address)
