"""The command `find_label_errors`: proposes label corrections as a file for `--relabel` and as an HTML page."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, UsageError, unknown_name
from soups.core.labels import Factor, LabelSpace
from soups.core.packages import require_package
from soups.data.layouts.columns import table_column
from soups.data.samples import set_rows
from soups.evaluation.label_errors import ProposedCorrection, is_group_label, measure_quality, propose_corrections
from soups.evaluation.probe import out_of_fold_probabilities
from soups.files.atomic import write_table
from soups.files.tables import read_table
from soups.pipeline.commands.curate import features_of_files
from soups.pipeline.run.create import build_run_start, open_or_plan_run
from soups.pipeline.run.images import image_paths
from soups.pipeline.run.model_files import find_model, load_model
from soups.pipeline.run.prediction_space import thumbnail
from soups.pipeline.run.run import Run
from soups.pipeline.score.context import open_context
from soups.pipeline.score.evaluate import pool_paths
from soups.pipeline.settings.tools import LabelErrorsSettings
from soups.report.html.pages import ImageCard, Section, write_page
from soups.report.tables import align_columns, format_interval
from soups.runtime.devices import limit_threads

if TYPE_CHECKING:
    from soups.core.preprocessing import Preprocessing
    from soups.models.classifier import Classifier

logger = logging.getLogger(__name__)

LABEL_FACTOR = "label"
"""The factor's name in a corrections file if labels have no factors."""
_IMAGES_PER_CARD = 4
_TILE_SIDE = 128


@dataclass(frozen=True)
class LabelEvidence:
    """Out-of-sample predictions for N images."""

    rows: pd.DataFrame
    """Their rows of the samples table."""
    probabilities: dict[str, np.ndarray]
    """Factor → (N, C) float64, from models that were not trained on the image."""


def find_label_errors(parsed: ParsedSettings[LabelErrorsSettings]) -> None:
    """Write the corrections file and the page; prints a summary table and the files' paths.

    Raises:
        UsageError: A factor is unknown, or the run has no models.
        DataError: The data is invalid or too small.
        EnvironmentFailure: cleanlab is not installed.
    """
    require_package("cleanlab", "soups find-label-errors")
    settings = parsed.settings
    run, exists = open_or_plan_run(parsed)
    factors = _select_factors(run, settings.factors)
    planted = _read_planted(Path(settings.planted)) if settings.planted is not None else None
    evidence = _pool_evidence(parsed, factors) if settings.from_pool else _head_evidence(run, exists, settings, factors)
    groups, images = evidence.rows["group"].to_numpy(str), evidence.rows["image"].tolist()
    proposals: list[ProposedCorrection] = []
    guessing: list[str] = []
    summary = [["", "images", "right %", "mean of classes % [95%]", "chance %", "proposals", "issues"]]
    for factor in factors:
        labels = _encode_labels(evidence.rows, factor)
        table = evidence.probabilities[factor.name]
        quality = measure_quality(labels, table, groups)
        own: list[ProposedCorrection] = []
        if quality.mean_low > quality.chance:
            own = propose_corrections(factor.name, factor.levels, labels, table, images, groups)
        else:
            guessing.append(factor.name)
        issues = sum(proposal.issue for proposal in own)
        scores = [
            f"{100 * quality.accuracy:.1f}",
            format_interval(vars(quality), "mean"),
            f"{100 * quality.chance:.1f}",
        ]
        summary.append([factor.name, str(len(labels)), *scores, str(len(own)), str(issues)])
        proposals += [proposal for proposal in own if proposal.doubt >= settings.least_doubt]
    proposals.sort(key=lambda proposal: -proposal.doubt)
    print(align_columns(summary))
    print("(right: the given level is the most probable one out of fold; issues: label errors by confident learning)")
    if guessing:
        what = "the pool is" if settings.from_pool else "the head is"
        print(f"{what} not surely better than chance for {', '.join(guessing)}: nothing is proposed there")
    path = Path(settings.output or (run.folder / "output" / "corrections.csv" if exists else "corrections.csv"))
    page = path.with_suffix(".html")
    written = _first_of_each_factor(proposals, settings.images)
    write_table(path, _corrections_table(written))
    _write_page(page, written, factors, evidence.rows, run)
    print(path, page, sep="\n")
    if planted is not None:
        print(_evaluate_proposals(planted, proposals, evidence, factors))


def _first_of_each_factor(proposals: list[ProposedCorrection], most: int) -> list[ProposedCorrection]:
    """Return the most doubtful proposals of each factor, the same for table and page; logs how many are left out."""
    counts: Counter[str] = Counter()
    written = []
    for proposal in proposals:
        counts[proposal.factor] += 1
        if counts[proposal.factor] <= most:
            written.append(proposal)
    if len(written) < len(proposals):
        text = "the %d most doubtful of %d proposals are written; --images %d writes all"
        logger.info(text, len(written), len(proposals), max(counts.values()))
    return written


def _read_planted(path: Path) -> set[tuple[str, str]]:
    """Return (image, factor) of each label that is known to be wrong."""
    table = read_table(path)
    images, factors = (table_column(table, name, path, "--planted's header") for name in ("image", "factor"))
    return set(zip(images, factors, strict=True))


def _evaluate_proposals(
    wrong: set[tuple[str, str]], proposals: list[ProposedCorrection], evidence: LabelEvidence, factors: list[Factor]
) -> str:
    """Return a table of how many known errors the proposals find.

    One correction counts as one error: an image, or the group if the label belongs to the group. "Found" counts the
    errors among the first 2n proposals for the factors, where n is the number of errors. "Right" is the accuracy on
    images of groups without errors, predicted out of fold.
    """
    rows = evidence.rows
    images, groups = rows["image"].tolist(), rows["group"].to_numpy(str)
    has_error = np.array([any((image, factor.name) in wrong for factor in factors) for image in images])
    clean = ~np.isin(groups, groups[has_error])
    matches = {}
    for factor in factors:
        whole = is_group_label(_encode_labels(rows, factor), groups)
        own = [row for row, image in enumerate(images) if (image, factor.name) in wrong]
        matches[factor.name] = {groups[row] if whole else images[row] for row in own}
    cells = [["", "planted", "in the first rows", "found", "right % of clean groups"]]
    parts = {factor.name: [factor.name] for factor in factors} | {"together": [factor.name for factor in factors]}
    for name, own_factors in parts.items():
        errors = {(match, factor) for factor in own_factors for match in matches[factor]}
        first_proposals = [proposal for proposal in proposals if proposal.factor in own_factors][: 2 * len(errors)]
        found = sum((proposal.match, proposal.factor) in errors for proposal in first_proposals)
        predictions = [evidence.probabilities[factor].argmax(axis=1) for factor in own_factors]
        true_labels = [_encode_labels(rows, factor) for factor in factors if factor.name in own_factors]
        right = np.all(np.equal(predictions, true_labels), axis=0)[clean]
        cells.append([name, str(len(errors)), str(2 * len(errors)), str(found), f"{100 * float(right.mean()):.1f}"])
    return align_columns(cells)


def _select_factors(run: Run, names: tuple[str, ...] | None) -> list[Factor]:
    """Return the selected factors; labels without factors are one factor."""
    joint = run.recorded.joint_space
    factors = list(joint.factors) if joint is not None else [Factor(LABEL_FACTOR, run.space.names)]
    known = {factor.name: factor for factor in factors}
    for name in names or ():
        if name not in known:
            raise unknown_name("factor", name, known)
    return [factor for factor in factors if names is None or factor.name in names]


def _encode_labels(rows: pd.DataFrame, factor: Factor) -> np.ndarray:
    return LabelSpace(factor.levels).encode(rows["label" if factor.name == LABEL_FACTOR else factor.name])


def _head_evidence(run: Run, exists: bool, settings: LabelErrorsSettings, factors: list[Factor]) -> LabelEvidence:
    """Return cross-validated predictions (folds by group) of a head on features of the start or of `--model-name`."""
    rows = run.samples[run.samples["split"].isin(["train", "val"])]
    classifier, preprocessing = _load_model_or_start(run, exists, settings)
    runtime = run.runtime(settings.runtime)
    limit_threads(runtime.threads)
    features = features_of_files(classifier, preprocessing, image_paths(rows, run), runtime, settings)
    groups = rows["group"].to_numpy(str)
    folds = settings.folds, settings.fold_seed
    tables = {}
    for factor in factors:
        labels = _encode_labels(rows, factor)
        tables[factor.name] = out_of_fold_probabilities(features, labels, groups, len(factor.levels), *folds)
    return LabelEvidence(rows, tables)


def _load_model_or_start(run: Run, exists: bool, settings: LabelErrorsSettings) -> "tuple[Classifier, Preprocessing]":
    if settings.model_name is None and not exists:
        start = build_run_start(run)
        return start.classifier, start.preprocessing
    if not exists:
        raise UsageError(f"--model-name {settings.model_name}: there is no run {run.name!r} yet")
    path = run.start if settings.model_name is None else find_model(settings.model_name, run, settings.run)
    classifier, card = load_model(run, path)
    if card.kind != "start":
        logger.warning("%s may have memorised wrong labels of its own training images; the start has not", path)
    return classifier, card.preprocessing


def _pool_evidence(parsed: ParsedSettings[LabelErrorsSettings], factors: list[Factor]) -> LabelEvidence:
    """Return the mean probabilities of the fine-tunes on the validation images, the only ones not trained on."""
    context = open_context(parsed.settings, parsed.names)
    rows = set_rows(context.run.samples, "val")
    if set(rows["split"]) != {"val"}:
        raise DataError(
            f"run {context.run.name!r} has no validation images, and its models were trained on all others",
            next_step="omit --from-pool to use a cross-validated head",
        )
    space, paths = context.run.space, pool_paths(context.run).values()
    mean = np.mean([context.probabilities(path, ["val"])["val"] for path in paths], axis=0)
    tables = {}
    for factor in factors:
        if factor.name != LABEL_FACTOR and factor not in space.factors:
            raise UsageError(
                f"--factors {factor.name}: run {context.run.name!r} was not trained on it",
                expected=f"some of {', '.join(space.factor_names)}",
                next_step="choose others with --factors, or omit --from-pool",
            )
        whole = factor.name == LABEL_FACTOR
        tables[factor.name] = mean if whole else space.marginal(mean, space.part([factor.name]))
    return LabelEvidence(rows, tables)


def _corrections_table(proposals: list[ProposedCorrection]) -> pd.DataFrame:
    """Return the table for `--relabel`, with further columns that help to decide."""
    rows = [
        (
            *(each.match, each.factor, each.before, each.after),
            *(round(value, 4) for value in (each.doubt, each.probability_before, each.probability_after)),
            "yes" if each.issue else "no",
        )
        for each in proposals
    ]
    columns = ["match", "factor", "from", "to", "doubt", "probability_from", "probability_to", "issue"]
    return pd.DataFrame(rows, columns=columns)


def _write_page(
    path: Path, proposals: list[ProposedCorrection], factors: list[Factor], rows: pd.DataFrame, run: Run
) -> None:
    """Write the page with the proposals of each factor."""
    files, sections = image_paths(rows, run), []
    for factor in factors:
        own = [proposal for proposal in proposals if proposal.factor == factor.name]
        shown = [
            ImageCard(
                proposal.match,
                _tile_images([files[row] for row in proposal.rows[:_IMAGES_PER_CARD]]),
                first=f"given: {proposal.before}",
                second=f"suggested: {proposal.after}",
                note=f"doubt {proposal.doubt:.2f}{', an issue' if proposal.issue else ''}",
            )
            for proposal in own
        ]
        sections.append(Section(factor.name.capitalize(), shown, f"{len(own)} proposals"))
    table = path.with_suffix(".csv").name
    intro = [
        f"Labels of run {run.name} contradicted by models that were not trained on them, most doubtful first.",
        f"Check them, delete the rows of {table} that are not errors, and train a new run with --relabel {table}.",
    ]
    write_page(path, "Labels to check", intro, sections)


def _tile_images(files: list[Path]) -> np.ndarray:
    """Return up to four images in one picture, two a row."""
    pictures = [Image.fromarray(thumbnail(file)) for file in files]
    if len(pictures) == 1:
        return np.asarray(pictures[0])
    side = (_TILE_SIDE, _TILE_SIDE)
    squares = [np.asarray(ImageOps.pad(picture, side, color=(255, 255, 255))) for picture in pictures]
    squares += [np.full_like(squares[0], 255)] * (len(squares) % 2)
    return np.vstack([np.hstack(squares[start : start + 2]) for start in range(0, len(squares), 2)])
