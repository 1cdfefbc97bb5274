"""What `scripts/find_label_errors.py` does: proposals of corrections, as a file for `--relabel` and as a page."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.cli import flags as cli
from soups.core.errors import DataError, UsageError, unknown_name
from soups.core.labels import Factor, LabelSpace
from soups.data.images.cache import open_images
from soups.data.images.geometry import evaluation_geometry
from soups.data.layouts.tables import table_column
from soups.data.samples import set_rows
from soups.evaluation.label_errors import ProposedCorrection, is_group_label, propose_corrections
from soups.evaluation.probe import load_or_compute_features, out_of_fold_probabilities
from soups.files.atomic import read_table, write_table
from soups.pipeline.run.create import build_run_start, open_or_plan_run
from soups.pipeline.run.images import image_paths
from soups.pipeline.run.model_files import find_model, load_model
from soups.pipeline.run.prediction_space import thumbnail
from soups.pipeline.run.run import Run
from soups.pipeline.score.context import RunContext, open_context
from soups.pipeline.score.evaluate import pool_paths
from soups.pipeline.settings.tools import LabelErrorsSettings
from soups.report.comparison import align_columns
from soups.report.html.pages import ImageCard, Section, write_page
from soups.runtime.devices import cache_dir, limit_threads

if TYPE_CHECKING:
    import pandas as pd

    from soups.core.preprocessing import Preprocessing
    from soups.models.classifier import Classifier

logger = logging.getLogger(__name__)

WHOLE = "label"
"""The factor's name in a corrections file where labels are plain."""
_SHOWN_TOGETHER = 4


@dataclass(frozen=True)
class LabelEvidence:
    """What is known of N images besides their labels."""

    rows: "pd.DataFrame"
    """Of the samples table."""
    probabilities: dict[str, np.ndarray]
    """Factor → (N, C) float64, from models that were not trained on the image."""


def find_label_errors(given: cli.ParsedSettings[LabelErrorsSettings]) -> None:
    """Write the corrections file and the page; prints a table of how many there are, and the files' paths.

    Raises:
        UsageError: an unknown factor, or a pool that is not there.
        DataError: data that is not what it should be, or too little of it.
    """
    settings = given.settings
    run, there = open_or_plan_run(given)
    factors = _factors(run, settings.factors)
    planted = _planted(Path(settings.planted)) if settings.planted is not None else None
    evidence = _of_the_pool(given, factors) if settings.from_pool else _of_a_head(run, there, settings, factors)
    groups, images = evidence.rows["group"].to_numpy(str), evidence.rows["image"].tolist()
    proposals, told = [], [["", "images", "right %", "proposals", "issues"]]
    for factor in factors:
        labels = _labels(evidence.rows, factor)
        table = evidence.probabilities[factor.name]
        own = propose_corrections(factor.name, factor.levels, labels, table, images, groups)
        right = f"{100 * float(np.mean(table.argmax(axis=1) == labels)):.1f}"
        told.append([factor.name, str(len(labels)), right, str(len(own)), str(sum(each.issue for each in own))])
        proposals += [each for each in own if each.doubt >= settings.least_doubt]
    proposals.sort(key=lambda each: -each.doubt)
    print(align_columns(told))
    print(
        "(right: images whose given level is the most probable one out of fold; issues: as confident learning has it)"
    )
    path = _output(settings, run, there)
    write_table(path, _corrections(proposals))
    _write_page(path.with_suffix(".html"), proposals, factors, evidence.rows, run, settings)
    print(path)
    print(path.with_suffix(".html"))
    if planted is not None:
        print(_practice(planted, proposals, evidence, factors))


def _planted(path: Path) -> set[tuple[str, str]]:
    """(image, factor) of each label that is known to be wrong."""
    table = read_table(path)
    images, factors = (table_column(table, name, path, "--planted's header") for name in ("image", "factor"))
    return set(zip(images, factors, strict=True))


def _practice(
    wrong: set[tuple[str, str]], proposals: list[ProposedCorrection], evidence: LabelEvidence, factors: list[Factor]
) -> str:
    """How good the proposals are, where the wrong labels are known.

    What is corrected as one is one error: an image, or where a label belongs to a group, the group. Found is what is
    among the first proposals for the factors in question, twice as many as there are errors; right is the share of
    images of groups without any error, each judged by a head that has not seen it.
    """
    rows = evidence.rows
    images, groups = rows["image"].tolist(), rows["group"].to_numpy(str)
    bad = np.array([any((image, factor.name) in wrong for factor in factors) for image in images])
    clean = ~np.isin(groups, groups[bad])
    matches = {}
    for factor in factors:
        whole = is_group_label(_labels(rows, factor), groups)
        own = [row for row, image in enumerate(images) if (image, factor.name) in wrong]
        matches[factor.name] = {groups[row] if whole else images[row] for row in own}
    cells = [["", "planted", "in the first rows", "found", "right % of clean groups"]]
    parts = {factor.name: [factor.name] for factor in factors} | {"together": [factor.name for factor in factors]}
    for name, own_factors in parts.items():
        errors = {(match, factor) for factor in own_factors for match in matches[factor]}
        asked = [each for each in proposals if each.factor in own_factors][: 2 * len(errors)]
        found = sum((each.match, each.factor) in errors for each in asked)
        shares = [evidence.probabilities[factor].argmax(axis=1) for factor in own_factors]
        truths = [_labels(rows, factor) for factor in factors if factor.name in own_factors]
        right = np.all([share == truth for share, truth in zip(shares, truths, strict=True)], axis=0)[clean]
        cells.append([name, str(len(errors)), str(2 * len(errors)), str(found), f"{100 * float(right.mean()):.1f}"])
    return align_columns(cells)


def _factors(run: Run, wanted: tuple[str, ...] | None) -> list[Factor]:
    """The factors to look at; of plain labels the label itself."""
    joint = run.recorded.joint_space
    factors = list(joint.factors) if joint is not None else [Factor(WHOLE, run.space.names)]
    known = {factor.name: factor for factor in factors}
    for name in wanted or ():
        if name not in known:
            raise unknown_name("factor", name, known)
    return [factor for factor in factors if wanted is None or factor.name in wanted]


def _labels(rows: "pd.DataFrame", factor: Factor) -> np.ndarray:
    return LabelSpace(factor.levels).encode(rows["label" if factor.name == WHOLE else factor.name])


def _of_a_head(run: Run, there: bool, settings: LabelErrorsSettings, factors: list[Factor]) -> LabelEvidence:
    """Cross-validated, by group, on features of the start, or of the model that is named."""
    rows = run.samples[run.samples["split"].isin(["train", "val"])]
    classifier, preprocessing = _model(run, there, settings)
    runtime = run.runtime(settings.runtime)
    limit_threads(runtime.threads)
    paths = image_paths(rows, run)
    images = open_images(paths, evaluation_geometry(preprocessing), settings.cache.cache, run.image_cache)
    size = settings.evaluation.eval_batch_size
    features = load_or_compute_features(classifier, images, preprocessing, runtime, size, cache_dir() / "features")
    groups = rows["group"].to_numpy(str)
    tables = {}
    for factor in factors:
        labels, classes = _labels(rows, factor), len(factor.levels)
        tables[factor.name] = out_of_fold_probabilities(
            features, labels, groups, classes, settings.folds, settings.fold_seed
        )
    return LabelEvidence(rows, tables)


def _model(run: Run, there: bool, settings: LabelErrorsSettings) -> "tuple[Classifier, Preprocessing]":
    if settings.model_name is None and not there:
        start = build_run_start(run)
        return start.classifier, start.preprocessing
    if not there:
        raise UsageError(f"--model-name {settings.model_name}: there is no run {run.name!r} yet")
    path = run.start if settings.model_name is None else find_model(settings.model_name, run, settings.run)
    classifier, card = load_model(run, path)
    if card.kind != "start":
        message = "%s may have learned the wrong labels of its own training images by heart; the start has not"
        logger.warning(message, path)
    return classifier, card.preprocessing


def _of_the_pool(given: cli.ParsedSettings[LabelErrorsSettings], factors: list[Factor]) -> LabelEvidence:
    """The mean of the fine-tunes' probabilities, on validation images alone: the others were trained on."""
    context = open_context(given.settings, given.names)
    rows = set_rows(context.run.samples, "val")
    if set(rows["split"]) != {"val"}:
        raise DataError(
            f"run {context.run.name!r} has no validation images: its models were trained on all others",
            next_step="leave --from-pool out for a cross-validated head",
        )
    return LabelEvidence(rows, {factor.name: _pool_says(context, factor) for factor in factors})


def _pool_says(context: RunContext, factor: Factor) -> np.ndarray:
    space = context.run.space
    tables = [context.probabilities(path, ["val"])["val"] for path in pool_paths(context.run).values()]
    mean = np.mean(tables, axis=0)
    if factor.name == WHOLE:
        return mean
    if factor not in space.factors:
        raise UsageError(
            f"--factors {factor.name}: run {context.run.name!r} was not trained on it",
            expected=f"some of {', '.join(space.factor_names)}",
            next_step="name them with --factors, or leave --from-pool out",
        )
    return space.marginal(mean, space.part([factor.name]))


def _output(settings: LabelErrorsSettings, run: Run, there: bool) -> Path:
    if settings.output is not None:
        return Path(settings.output)
    return run.folder / "output" / "corrections.csv" if there else Path("corrections.csv")


def _corrections(proposals: list[ProposedCorrection]) -> "pd.DataFrame":
    """A table that `--relabel` reads; columns that it does not know help to decide."""
    import pandas as pd

    rows = [
        {
            "match": each.match,
            "factor": each.factor,
            "from": each.before,
            "to": each.after,
            "doubt": round(each.doubt, 4),
            "probability_from": round(each.probability_before, 4),
            "probability_to": round(each.probability_after, 4),
            "issue": "yes" if each.issue else "no",
        }
        for each in proposals
    ]
    columns = ["match", "factor", "from", "to", "doubt", "probability_from", "probability_to", "issue"]
    return pd.DataFrame(rows, columns=columns)


def _write_page(
    path: Path,
    proposals: list[ProposedCorrection],
    factors: list[Factor],
    rows: "pd.DataFrame",
    run: Run,
    settings: LabelErrorsSettings,
) -> None:
    files = image_paths(rows, run)
    sections = []
    for factor in factors:
        own = [each for each in proposals if each.factor == factor.name]
        shown = [
            ImageCard(
                each.match,
                _together([files[row] for row in each.rows[:_SHOWN_TOGETHER]]),
                first=f"given: {each.before}",
                second=f"suggested: {each.after}",
                note=f"doubt {each.doubt:.2f}{', an issue' if each.issue else ''}",
            )
            for each in own[: settings.images]
        ]
        note = f"{len(own)} proposals" if len(own) <= settings.images else f"the first {len(shown)} of {len(own)}"
        sections.append(Section(factor.name.capitalize(), shown, note))
    intro = [
        f"Labels of run {run.name} that probabilities from elsewhere contradict, the most doubtful first.",
        f"Look, delete the rows of {path.with_suffix('.csv').name} that are no errors, and train a new run with "
        f"--relabel {path.with_suffix('.csv').name}.",
    ]
    write_page(path, "Labels to look at", intro, sections)


def _together(files: list[Path]) -> np.ndarray:
    """Up to four images side by side, in two rows where there are more than two."""
    pictures = [_square(thumbnail(file)) for file in files]
    if len(pictures) == 1:
        return thumbnail(files[0])
    blank = np.full_like(pictures[0], 255)
    pictures += [blank] * (len(pictures) % 2)
    lines = [np.hstack(pictures[start : start + 2]) for start in range(0, len(pictures), 2)]
    return np.vstack(lines)


def _square(pixels: np.ndarray, side: int = 128) -> np.ndarray:
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.pad(Image.fromarray(pixels), (side, side), color=(255, 255, 255)))
