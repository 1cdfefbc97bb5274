"""The command `curate`: selects the images of a pool that are most similar to a target set (CSV and HTML page)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, UsageError
from soups.core.preprocessing import Preprocessing
from soups.data.curate import Selection, select_similar
from soups.data.images.cache import open_images
from soups.data.images.decode import find_unreadable
from soups.data.images.geometry import evaluation_geometry
from soups.data.layouts.image_files import FolderListing, existing_folder, images_below, table_name
from soups.evaluation.probe import load_or_compute_features
from soups.files.atomic import write_table
from soups.models.build import build_start
from soups.pipeline.run.images import image_paths
from soups.pipeline.run.prediction_space import thumbnail
from soups.pipeline.run.run import require_run
from soups.pipeline.settings.tools import CurateSettings, LabelErrorsSettings
from soups.report.html.pages import ImageCard, Section, write_page
from soups.runtime.devices import Runtime, cache_dir, derived_seed, limit_threads, resolve

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

logger = logging.getLogger(__name__)


def curate(parsed: ParsedSettings[CurateSettings]) -> None:
    """Write the table and the page of the selected images; prints their paths.

    Raises:
        UsageError: Pool, target or count is missing, or the pool has fewer images than the count.
        DataError: A folder does not exist or has no images, or images cannot be read.
    """
    settings = parsed.settings
    if settings.count is None:
        raise UsageError("--count is not given", expected="the number of images to select")
    pool = existing_folder(settings.pool, "--pool", "a folder of images, in folders named after their classes or flat")
    target = existing_folder(settings.target, "--target", "a folder of images that those picked should be like")
    files, labels = _pool_images(pool, settings)
    target_files = _list_images(target, "--target")
    if settings.count > len(files):
        raise UsageError(f"--count {settings.count}", expected=f"at most {len(files)}, the images of {pool}")
    run = require_run(settings.run, settings.run.name) if settings.run.name is not None else None
    # Validation and test images must not be selected for training.
    excluded = list(image_paths(run.samples[run.samples["split"] != "train"], run)) if run is not None else []
    excluded += [path for folder in settings.leave_out for path in _list_images(Path(folder), "--leave-out")]
    # Features depend neither on the head nor on the class names.
    model = run.recorded.model if run is not None else settings.model
    start, runtime = build_start(model, ("target", "pool"), seed=derived_seed(0)), resolve(settings.runtime)
    limit_threads(runtime.threads)
    of_pool, of_target, *of_excluded = [
        features_of_files(start.classifier, start.preprocessing, paths, runtime, settings)
        for paths in (files, target_files, excluded)
        if paths
    ]
    # The target itself is excluded too, because it is often a test or validation set.
    forbidden = np.concatenate([of_target, *of_excluded])
    selection = select_similar(of_pool, of_target, forbidden, settings.count, settings.duplicate_similarity)
    if len(selection.rows) < settings.count:
        message = "selected %d of %d images: the others are near-duplicates of these or of images used for scoring"
        logger.warning(message, len(selection.rows), settings.count)
    _write_selection(selection, files, labels, target_files, settings)


def _pool_images(pool: Path, settings: CurateSettings) -> tuple[list[Path], list[str] | None]:
    """Return the pool's images and their labels: `--label`, else the class folders' names, else None (unknown).

    Raises:
        DataError: The pool has no images, or some that cannot be read.
    """
    files = _list_images(pool, "--pool")
    if settings.skip_bad_images:
        unreadable = dict(find_unreadable(files))
        for path, reason in unreadable.items():
            logger.warning("skipped: %s: %s", path, reason)
        files = [path for path in files if path not in unreadable]
    if settings.label is not None:
        return files, [settings.label] * len(files)
    if loose := FolderListing(pool).images:
        message = "%s: %d images outside class folders, so the table has no labels; --label NAME labels all of them"
        logger.warning(message, pool, len(loose))
        return files, None
    return files, [path.relative_to(pool).parts[0] for path in files]


def _list_images(folder: Path, flag: str) -> list[Path]:
    files = images_below(existing_folder(str(folder), flag, "a folder of images"))[0]
    if not files:
        raise DataError(f"{flag} {folder}: no images in this folder", expected="images, at any depth")
    return files


def features_of_files(
    classifier: "Classifier",
    preprocessing: Preprocessing,
    paths: Sequence[Path],
    runtime: Runtime,
    settings: CurateSettings | LabelErrorsSettings,
) -> np.ndarray:
    """Return the features of image files, (N, D) float32 with rows of length 1, from the cache if it has them.

    Raises:
        DataError: Images cannot be read.
    """
    geometry, folder = evaluation_geometry(preprocessing), cache_dir()
    images = open_images(paths, geometry, settings.cache.cache, folder / "images")
    size = settings.evaluation.eval_batch_size
    return load_or_compute_features(classifier, images, preprocessing, runtime, size, folder / "features")


def _write_selection(
    selection: Selection, files: list[Path], labels: list[str] | None, target: list[Path], settings: CurateSettings
) -> None:
    path, rows = Path(settings.output), selection.rows.tolist()
    pool, target_folder = Path(settings.pool or ""), Path(settings.target or "")
    columns: dict[str, list[object]] = {"image": [table_name(files[row], pool) for row in rows]}
    if labels is not None:
        columns["label"] = [labels[row] for row in rows]
    columns["similarity"] = [round(float(value), 4) for value in selection.similarity]
    columns["nearest"] = [table_name(target[row], target_folder) for row in selection.nearest]
    table = pd.DataFrame(columns)
    write_table(path, table)
    cards = []
    for index, row in zip(rows[: settings.images], table.itertuples(), strict=False):
        label, note = "" if labels is None else labels[index], f"{row.similarity:.3f} like {row.nearest}"
        cards.append(ImageCard(str(row.image), thumbnail(files[index]), first=label, note=note))
    intro = [
        f"{len(rows)} of the {len(files)} images of {pool.name}, most similar to {target_folder.name} first.",
        f"{selection.skipped_duplicates} near-duplicates with a higher similarity than the last image are left out.",
    ]
    if labels is not None:
        counts = ", ".join(f"{count} {label}" for label, count in table["label"].value_counts().sort_index().items())
        intro.append(f"Labels: {counts}.")
        logger.info("train on them: python finetune.py --data-location %s --labels %s", pool, path)
    note = f"{len(rows)} images" if len(rows) == len(cards) else f"the first {len(cards)} of {len(rows)}"
    page = path.with_suffix(".html")
    write_page(page, "Selection from a pool", intro, [Section("Most similar first", cards, note)])
    print(path, page, sep="\n")
