"""What `scripts/disagreement.py` does: the images on which models or tables disagree, as a table and as a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soups.cli import flags as cli
from soups.core.errors import UsageError
from soups.core.labels import LabelSpace
from soups.data.samples import evaluation_sets, set_rows
from soups.ensembles.disagreement import disagreement_by_factor, format_votes, jensen_shannon_divergence
from soups.files.atomic import write_table
from soups.files.prediction_tables import read_predictions
from soups.pipeline.run.images import image_paths
from soups.pipeline.run.model_files import find_model
from soups.pipeline.run.prediction_space import plain_space, space_of_tables, thumbnail, thumbnail_reader
from soups.pipeline.run.run import Run
from soups.pipeline.score.context import open_context
from soups.pipeline.score.evaluate import pool_paths
from soups.pipeline.settings.tools import DisagreementSettings
from soups.pipeline.vote.ensemble_spec import common_space
from soups.report.html.pages import ImageCard, Section, write_page


@dataclass(frozen=True)
class MemberVotes:
    """What M members say of N images."""

    what: str
    """Models or tables."""
    members: list[str]
    codes: np.ndarray
    """(M, N) int64 answers in [0, C)."""
    space: LabelSpace
    images: list[str]
    labels: np.ndarray
    """(N,) int64, the truth; -1 where it is not known."""
    apart: np.ndarray
    """(N,) float64, what decides between images whose votes are divided alike."""
    pixels: Callable[[int], np.ndarray] | None
    run: Run | None


def list_disagreement(given: cli.ParsedSettings[DisagreementSettings]) -> None:
    """Write the table and the page; prints their paths.

    Raises:
        UsageError: one member alone, models and tables mixed, or no such set.
        DataError: members of other classes or images.
    """
    settings = given.settings
    members = settings.members or ()
    tables = [name for name in members if name.lower().endswith(".csv")]
    if tables and len(tables) < len(members):
        other = next(name for name in members if name not in tables)
        raise UsageError(f"--members: {other} is no CSV", expected="models alone or CSVs alone")
    votes = _of_tables(settings, [Path(name) for name in tables]) if tables else _of_models(given)
    if len(votes.members) < 2:
        raise UsageError("--members: one alone", expected="two or more, who can disagree", found=votes.members[0])
    if settings.output is None and votes.run is None:
        raise UsageError("--output is missing", expected="the CSV to write, where there is no run to write it into")
    path = Path(settings.output) if settings.output else Path()
    if settings.output is None and votes.run is not None:
        path = votes.run.folder / "output" / "disagreement.csv"
    _write(votes, path, settings.images)


def _of_models(given: cli.ParsedSettings[DisagreementSettings]) -> MemberVotes:
    settings = given.settings
    context = open_context(settings, given.names)
    run = context.run
    if settings.on not in evaluation_sets(run.samples):
        known = ", ".join(evaluation_sets(run.samples))
        raise UsageError(f"--on {settings.on}: no such set of images", expected=f"one of {known}")
    named = [find_model(name, run, settings.run) for name in settings.members or ()]
    paths = named or list(pool_paths(run).values())
    space = common_space(context, paths)
    tables = np.stack([context.probabilities(path, [settings.on], space)[settings.on] for path in paths])
    rows = set_rows(run.samples, settings.on)
    files = image_paths(rows, run)
    return MemberVotes(
        "models",
        _short_names(paths),
        tables.argmax(axis=2),
        space,
        rows["image"].tolist(),
        context.labels(settings.on, space),
        jensen_shannon_divergence(tables),
        lambda row: thumbnail(files[row]),
        run,
    )


def _of_tables(settings: DisagreementSettings, paths: Sequence[Path]) -> MemberVotes:
    run, space = space_of_tables(settings, paths[0])
    tables = [read_predictions(path, space) for path in paths]
    space = space or plain_space(tables)
    first = tables[0]
    codes = np.stack([space.encode(table.labels)[table.rows_for(first)] for table in tables])
    unknown = np.full(len(first.ids), -1, dtype=np.int64)
    pixels = thumbnail_reader(first.ids, run, settings.data)
    return MemberVotes(
        "tables", _short_names(paths), codes, space, first.ids, unknown, np.zeros(len(unknown)), pixels, run
    )


def _short_names(paths: Sequence[Path]) -> list[str]:
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, paths, strict=True)]


def _write(votes: MemberVotes, path: Path, most: int) -> None:
    import pandas as pd

    names = votes.space.names
    entropies = disagreement_by_factor(votes.codes, votes.space)
    order = _order(entropies["class"], votes.apart)
    columns: dict[str, list[object]] = {"image": [votes.images[row] for row in order]}
    for of, values in entropies.items():
        columns["divided" if of == "class" else f"divided_{of}"] = [round(float(values[row]), 6) for row in order]
    columns["votes"] = [format_votes(votes.codes[:, row], names) for row in order]
    if (votes.labels >= 0).all():
        columns["truth"] = [names[votes.labels[row]] for row in order]
    for member, codes in zip(votes.members, votes.codes, strict=True):
        columns[member] = [names[codes[row]] for row in order]
    write_table(path, pd.DataFrame(columns))
    page = path.with_suffix(".html")
    split = int((entropies["class"] > 0).sum())
    write_page(
        page,
        f"Disagreement of {len(votes.members)} {votes.what}",
        [
            f"{split} of {len(votes.images)} images are not answered alike by all of {', '.join(votes.members)}.",
            "Divided: the entropy of the votes in nats; the most divided come first.",
        ],
        [_section(votes, of, values, most) for of, values in entropies.items()],
    )
    print(path)
    print(page)


def _order(entropy: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Positions of the images, the most divided first."""
    return np.lexsort((np.arange(len(entropy)), -apart, -np.round(entropy, 9)))


def _section(votes: MemberVotes, of: str, entropy: np.ndarray, most: int) -> Section:
    """The most divided images of the class or of a factor."""
    part = votes.space if of == "class" else votes.space.part([of])
    owner = votes.space.projection(part) if of != "class" else np.arange(len(votes.space))
    rows = [int(row) for row in _order(entropy, votes.apart) if entropy[row] > 0]
    cards = [
        ImageCard(
            votes.images[row],
            votes.pixels(row) if votes.pixels is not None else None,
            first=f"is {part.names[owner[votes.labels[row]]]}" if votes.labels[row] >= 0 else "",
            second=format_votes(owner[votes.codes[:, row]], part.names),
            note=f"divided {entropy[row]:.2f}",
        )
        for row in rows[:most]
    ]
    shown = f"{len(rows)} images" if len(rows) <= most else f"the {most} most divided of {len(rows)} images"
    return Section("All factors together" if of == "class" and votes.space.factors else of.capitalize(), cards, shown)
