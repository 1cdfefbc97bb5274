"""What `scripts/curate.py` does: the images of a pool that are most like a target set, as a table and as a page."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.cli import flags as cli
from soups.core.errors import DataError, UsageError, unknown_name
from soups.data.curate import Selection, select_similar
from soups.data.images.cache import open_images
from soups.data.images.decode import find_unreadable
from soups.data.images.geometry import evaluation_geometry
from soups.data.layouts.folders import FolderListing, existing_folder, images_below, table_name
from soups.evaluation.probe import load_or_compute_features
from soups.files.atomic import write_table
from soups.pipeline.run.images import image_paths
from soups.pipeline.run.prediction_space import thumbnail
from soups.pipeline.run.run import Run, existing_run, known_runs
from soups.pipeline.settings.tools import CurateSettings
from soups.report.html.pages import ImageCard, Section, write_page
from soups.runtime.devices import cache_dir, derived_seed, limit_threads, resolve

if TYPE_CHECKING:
    from soups.models.start import Start

logger = logging.getLogger(__name__)


def curate(given: cli.ParsedSettings[CurateSettings]) -> None:
    """Write the table and the page; prints their paths.

    Raises:
        UsageError: no pool, target or count, or a pool of fewer images.
        DataError: a folder that is not there or holds no images, or images that cannot be read.
    """
    settings = given.settings
    if settings.count is None:
        raise UsageError("--count is not given", expected="how many images to pick")
    pool = existing_folder(settings.pool, "--pool", "a folder of images, in folders named after their classes or flat")
    target = existing_folder(settings.target, "--target", "a folder of images that those picked should be like")
    files, labels = _pool_images(pool, settings)
    wanted = _images(target, "--target")
    if settings.count > len(files):
        raise UsageError(f"--count {settings.count}", expected=f"at most {len(files)}, the images of {pool}")
    run = _run(settings)
    avoided = _scored_images(run)
    avoided += [path for folder in settings.leave_out for path in _images(Path(folder), "--leave-out")]
    parts = _features([files, wanted, avoided], _start(run, settings), settings)
    # The target is often a test or validation set itself.
    picked = select_similar(
        parts[0], parts[1], np.concatenate(parts[1:]), settings.count, settings.duplicate_similarity
    )
    if len(picked.rows) < settings.count:
        message = "%d of the %d images asked for: the others are nearly the same as these, or as images to be scored on"
        logger.warning(message, len(picked.rows), settings.count)
    _write(picked, files, labels, wanted, pool, settings)


def _pool_images(pool: Path, settings: CurateSettings) -> tuple[list[Path], list[str] | None]:
    """The images of the pool and their labels: those of --label, else the names of the class folders; None: unknown.

    Raises:
        DataError: there are no images, or some that cannot be read.
    """
    files = _images(pool, "--pool")
    if settings.skip_bad_images:
        bad = find_unreadable(files)
        for path, reason in bad:
            logger.warning("left out: %s: %s", path, reason)
        files = [path for path in files if path not in {path for path, _ in bad}]
    if settings.label is not None:
        return files, [settings.label] * len(files)
    if loose := FolderListing(pool).images:
        logger.warning(
            "%s: %d images outside class folders, so the table has no labels; --label NAME gives all the same",
            *(pool, len(loose)),
        )
        return files, None
    return files, [path.relative_to(pool).parts[0] for path in files]


def _images(folder: Path, flag: str) -> list[Path]:
    files = images_below(existing_folder(str(folder), flag, "a folder of images"))[0]
    if not files:
        raise DataError(f"{flag} {folder}: no images in it", expected="images, at any depth")
    return files


def _run(settings: CurateSettings) -> Run | None:
    """The run that the pick is for; None where nobody names one.

    Raises:
        UsageError: there is no such run.
    """
    if settings.run.name is None:
        return None
    run = existing_run(settings.run, settings.run.name)
    if run is None:
        raise unknown_name("run", settings.run.name, known_runs(settings.run))
    return run


def _scored_images(run: Run | None) -> list[Path]:
    """The validation and test images that nothing may be picked of."""
    if run is None:
        return []
    return list(image_paths(run.samples[~run.samples["split"].isin(["train"])], run))


def _start(run: Run | None, settings: CurateSettings) -> "Start":
    from soups.models.build import build_start

    # Features do not depend on the head, nor on what its classes are called.
    model = run.recorded.model if run is not None else settings.model
    return build_start(model, ("target", "pool"), seed=derived_seed(0))


def _features(files: Sequence[list[Path]], start: "Start", settings: CurateSettings) -> list[np.ndarray]:
    """Of each list of images (N, D) float32, each row of length 1.

    Raises:
        DataError: images that cannot be read, all of a list.
    """
    runtime, size = resolve(settings.runtime), settings.evaluation.eval_batch_size
    limit_threads(runtime.threads)
    geometry, folder = evaluation_geometry(start.preprocessing), cache_dir()
    parts: list[np.ndarray] = []
    for paths in files:
        if not paths:
            parts.append(np.empty((0, parts[0].shape[1]), dtype=np.float32))
            continue
        images = open_images(paths, geometry, settings.cache.cache, folder / "images")
        parts.append(
            load_or_compute_features(start.classifier, images, start.preprocessing, runtime, size, folder / "features")
        )
    return parts


def _write(
    picked: Selection,
    files: list[Path],
    labels: list[str] | None,
    target: list[Path],
    pool: Path,
    settings: CurateSettings,
) -> None:
    import pandas as pd

    path = Path(settings.output)
    rows, place = picked.rows.tolist(), Path(settings.target or "")
    columns: dict[str, list[object]] = {"image": [table_name(files[row], pool) for row in rows]}
    if labels is not None:
        columns["label"] = [labels[row] for row in rows]
    columns["similarity"] = [round(float(value), 4) for value in picked.similarity]
    columns["nearest"] = [table_name(target[row], place) for row in picked.nearest]
    table = pd.DataFrame(columns)
    write_table(path, table)
    cards = [
        ImageCard(
            str(row.image),
            thumbnail(files[index]),
            first=str(row.label) if labels is not None else "",
            note=f"{row.similarity:.3f} like {row.nearest}",
        )
        for index, row in zip(rows[: settings.images], table.itertuples(), strict=False)
    ]
    intro = [
        f"{len(rows)} of the {len(files)} images of {pool.name}, the most like an image of {place.name} first.",
        f"{picked.skipped_duplicates} more similar than the last one were skipped as near duplicates of another.",
    ]
    if labels is not None:
        counts = ", ".join(f"{count} {label}" for label, count in table["label"].value_counts().sort_index().items())
        intro.append(f"Labels: {counts}.")
        logger.info("to train on them: python finetune.py --data-location %s --labels %s", pool, path)
    note = f"{len(rows)} images" if len(rows) == len(cards) else f"the first {len(cards)} of {len(rows)}"
    page = path.with_suffix(".html")
    write_page(page, "Selection from a pool", intro, [Section("Most like the target first", cards, note)])
    print(path)
    print(page)
