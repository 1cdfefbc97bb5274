"""The command `disagreement`: lists the images on which models or prediction tables disagree (CSV and HTML page)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from soups.cli.flags import ParsedSettings
from soups.core.errors import UsageError
from soups.core.labels import LabelSpace
from soups.data.samples import evaluation_sets, set_rows
from soups.ensembles.disagreement import disagreement_by_factor, format_votes, jensen_shannon_divergence
from soups.files.aligned_tables import read_all
from soups.files.atomic import write_table
from soups.files.tables import is_table
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
    """Votes of M members on N images."""

    kind: str
    """`models` or `tables`."""
    members: list[str]
    codes: np.ndarray
    """(M, N) int64 predicted classes in [0, C)."""
    space: LabelSpace
    images: list[str]
    labels: np.ndarray
    """(N,) int64, the true classes; -1 where the label is unknown."""
    tie_break: np.ndarray
    """(N,) float64, breaks ties between images with equal vote entropy; higher ranks first."""
    read_image: Callable[[int], np.ndarray] | None
    run: Run | None


def list_disagreement(parsed: ParsedSettings[DisagreementSettings]) -> None:
    """Write the table and the page of the images by disagreement; prints their paths.

    Raises:
        UsageError: There is only one member, models and tables are mixed, or the set does not exist.
        DataError: Members have different classes or images.
    """
    settings = parsed.settings
    members = settings.members or ()
    tables = [name for name in members if is_table(name)]
    if tables and len(tables) < len(members):
        other = next(name for name in members if name not in tables)
        raise UsageError(f"--members: {other} is not a CSV", expected="models alone or CSVs alone")
    votes = _votes_of_tables(settings, [Path(name) for name in tables]) if tables else _votes_of_models(parsed)
    if len(votes.members) < 2:
        raise UsageError("--members: only one", expected="two or more members", found=votes.members[0])
    if settings.output is not None:
        path = Path(settings.output)
    elif votes.run is not None:
        path = votes.run.folder / "output" / "disagreement.csv"
    else:
        raise UsageError("--output is missing", expected="the CSV file to write, because there is no run")
    _write_results(votes, path, settings.images)


def _votes_of_models(parsed: ParsedSettings[DisagreementSettings]) -> MemberVotes:
    settings = parsed.settings
    context = open_context(settings, parsed.names)
    run = context.run
    known = evaluation_sets(run.samples)
    if settings.on not in known:
        raise UsageError(f"--on {settings.on}: no such set of images", expected=f"one of {', '.join(known)}")
    named = [find_model(name, run, settings.run) for name in settings.members or ()]
    paths = named or list(pool_paths(run).values())
    space = common_space(context, paths)
    tables = np.stack([context.probabilities(path, [settings.on], space)[settings.on] for path in paths])
    names, codes, ties = _short_names(paths), tables.argmax(axis=2), jensen_shannon_divergence(tables)
    rows = set_rows(run.samples, settings.on)
    images, labels, files = rows["image"].tolist(), context.labels(settings.on, space), image_paths(rows, run)
    return MemberVotes("models", names, codes, space, images, labels, ties, lambda row: thumbnail(files[row]), run)


def _votes_of_tables(settings: DisagreementSettings, paths: Sequence[Path]) -> MemberVotes:
    run, space = space_of_tables(settings, paths[0])
    tables = read_all(paths, space)
    space = space or plain_space(tables)
    first = tables[0]
    codes = np.stack([space.encode(table.labels) for table in tables])
    unknown, ties = np.full(len(first.ids), -1, dtype=np.int64), np.zeros(len(first.ids))
    if all(set(table.probability_classes) == set(space.names) for table in tables):
        ties = jensen_shannon_divergence(np.stack([table.probabilities(space.names) for table in tables]))
    read_image = thumbnail_reader(first.ids, run, settings.data)
    return MemberVotes("tables", _short_names(paths), codes, space, first.ids, unknown, ties, read_image, run)


def _short_names(paths: Sequence[Path]) -> list[str]:
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, paths, strict=True)]


def _write_results(votes: MemberVotes, path: Path, limit: int) -> None:
    names = votes.space.names
    entropies = disagreement_by_factor(votes.codes, votes.space)
    order = _rank_rows(entropies["class"], votes.tie_break)
    columns: dict[str, list[object]] = {"image": [votes.images[row] for row in order]}
    for part, values in entropies.items():
        columns["divided" if part == "class" else f"divided_{part}"] = [round(float(values[row]), 6) for row in order]
    columns["votes"] = [format_votes(votes.codes[:, row], names) for row in order]
    if (votes.labels >= 0).all():
        columns["truth"] = [names[votes.labels[row]] for row in order]
    for member, codes in zip(votes.members, votes.codes, strict=True):
        columns[member] = [names[codes[row]] for row in order]
    write_table(path, pd.DataFrame(columns))
    page, title = path.with_suffix(".html"), f"Disagreement of {len(votes.members)} {votes.kind}"
    differing = int((entropies["class"] > 0).sum())
    intro = [
        f"The predictions of {', '.join(votes.members)} differ on {differing} of {len(votes.images)} images.",
        "Divided: the entropy of the votes in nats, highest first.",
    ]
    write_page(page, title, intro, [_page_section(votes, part, values, limit) for part, values in entropies.items()])
    print(path, page, sep="\n")


def _rank_rows(entropy: np.ndarray, tie_break: np.ndarray) -> np.ndarray:
    """Return the row numbers of the images, highest vote entropy first, then in their order."""
    return np.lexsort((-tie_break, -np.round(entropy, 9)))


def _page_section(votes: MemberVotes, part_name: str, entropy: np.ndarray, limit: int) -> Section:
    """Return the page's section with the images that disagree most on the class or on a factor."""
    whole = part_name == "class"
    part = votes.space if whole else votes.space.part([part_name])
    class_of_part = np.arange(len(votes.space)) if whole else votes.space.projection(part)
    rows = [int(row) for row in _rank_rows(entropy, votes.tie_break) if entropy[row] > 0]
    cards = [
        ImageCard(
            votes.images[row],
            votes.read_image(row) if votes.read_image is not None else None,
            first=f"is {part.names[class_of_part[votes.labels[row]]]}" if votes.labels[row] >= 0 else "",
            second=format_votes(class_of_part[votes.codes[:, row]], part.names),
            note=f"divided {entropy[row]:.2f}",
        )
        for row in rows[:limit]
    ]
    shown = f"{len(rows)} images" if len(rows) <= limit else f"the {limit} most divided of {len(rows)} images"
    title = "All factors together" if whole and votes.space.factors else part_name.capitalize()
    return Section(title, cards, shown)
