"""What is predicted wrong: scores with intervals, of the class and of each factor, and what is taken for what."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from soups.core.statistics import accuracy_from_sums, bootstrap_sums_interval, macro_f1_from_sums, mcnemar
from soups.report.answers import JOINT, LabelledPredictions
from soups.report.comparison import NOTHING, align_columns, format_p_value
from soups.report.per_class import class_scores, class_table, confusion_text

_SCORES = {"accuracy": accuracy_from_sums, "macro_f1": macro_f1_from_sums}


def score_rows(answers: LabelledPredictions, level: float = 0.95) -> list[dict[str, Any]]:
    """Accuracy and macro-F1 with their intervals, of the class and of each factor.

    Returns:
        Dicts with `of`, `accuracy`, `accuracy_low`, `accuracy_high`, `macro_f1`, … (in [0, 1]), `images`, `groups`.
    """
    rows = []
    for name, part in answers.parts().items():
        row: dict[str, Any] = {"of": name}
        for key, score in _SCORES.items():
            row[key] = float(score(part.sums.sum(axis=0)))
            row[f"{key}_low"], row[f"{key}_high"] = bootstrap_sums_interval(part.sums, score, level)
        rows.append(row | {"images": len(part.labels), "groups": len(part.sums)})
    return rows


def score_table(rows: Sequence[Mapping[str, Any]], level: float = 0.95) -> str:
    """The rows of `score_rows` as aligned text, in per cent."""
    interval = f"[{100 * level:g}%]"
    cells = [["", f"accuracy % {interval}", f"macro-F1 % {interval}", "images", "groups"]]
    for row in rows:
        scores = [_with_interval(row, key) for key in _SCORES]
        cells.append([row["of"], *scores, str(row["images"]), str(row["groups"])])
    return align_columns(cells)


def class_rows(answers: LabelledPredictions) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support of every class and every level, for machines: dicts with `of` and `class`."""
    return [
        {"of": name, **row}
        for name, part in answers.parts().items()
        for row in class_scores(part.matrix, part.space.names)
    ]


def mistakes(answers: LabelledPredictions, most: int = 10) -> list[tuple[str, str, int, int]]:
    """Which classes go wrong and into what, the most frequent first: truth, prediction, images, all of that truth."""
    matrix, names = answers.matrix, answers.space.names
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [np.unravel_index(place, wrong.shape) for place in order]
    return [
        (names[int(row)], names[int(column)], int(wrong[row, column]), int(matrix[row].sum()))
        for row, column in pairs
        if wrong[row, column]
    ]


def validation_text(name: str, answers: LabelledPredictions, images: str = "validation images") -> str:
    """Everything that is said of one model or table, as text."""
    right = int((answers.labels == answers.predictions).sum())
    share = f"{100 * right / len(answers.labels):.1f}%"
    blocks = [
        f"{name}: {right} of {len(answers.labels)} {images} right ({share})",
        score_table(score_rows(answers)) + "\n(intervals: resampling groups)",
    ]
    for of, part in answers.parts().items():
        matrix, names = part.matrix, part.space.names
        heading = f"— {of} —" if len(answers.parts()) > 1 else ""
        blocks.append("\n".join([*[heading] * bool(heading), class_table(matrix, names)]))
        blocks.append(confusion_text(matrix, names))
        blocks += [_mistakes_text(part)] if mistakes(part) else []
    return "\n\n".join(blocks)


def _mistakes_text(answers: LabelledPredictions) -> str:
    cells = [["truth → prediction", "images", "of", "%"]]
    for truth, prediction, count, images in mistakes(answers):
        share = f"{100 * count / images:.1f}" if images else NOTHING
        cells.append([f"{truth} → {prediction}", str(count), str(images), share])
    return align_columns(cells)


def comparison_rows(named: Mapping[str, Sequence[LabelledPredictions]], level: float = 0.95) -> list[dict[str, Any]]:
    """Predictions of the same images side by side, each against the first.

    Where a row has several (of models that differ in their seed alone), its scores are their means: what is due to the
    seed weighs less then.

    Returns:
        A dict for each, with `name` and `tables` (how many), and for the class and each factor (`class_accuracy`,
        `age_macro_f1`, …) the score with `_low` and `_high`, its gain over the first with `_gain`, `_gain_low`,
        `_gain_high` (the same groups drawn for both), and `p`: exact McNemar test of the class against the first, of
        single ones; gains and p are None in the first row.
    """
    rows: list[dict[str, Any]] = []
    first = next(iter(named.values()))
    for name, several in named.items():
        row: dict[str, Any] = {"name": name, "tables": len(several)}
        for of in several[0].parts():
            own, other = ([each.parts()[of].sums for each in group] for group in (several, first))
            for key, score in _SCORES.items():
                row |= _interval(f"{of}_{key}", own, [], score, level)
                gain = _interval(f"{of}_{key}_gain", own, other, score, level)
                row |= gain if rows else dict.fromkeys(gain)
        single = len(several) == len(first) == 1 and bool(rows)
        right = [each.labels == each.predictions for each in (several[0], first[0])]
        rows.append(row | {"p": mcnemar(*right) if single else None})
    return rows


def _interval(
    name: str, own: Sequence[np.ndarray], other: Sequence[np.ndarray], score: Any, level: float
) -> dict[str, float]:
    """The mean score of some predictions, less that of others of the same images, with its interval."""
    every = np.hstack([*own, *other])

    def statistic(sums: np.ndarray) -> np.ndarray:
        parts = [score(part) for part in np.split(sums, len(own) + len(other), axis=-1)]
        mean = np.mean(parts[: len(own)], axis=0)
        return mean - np.mean(parts[len(own) :], axis=0) if other else mean

    low, high = bootstrap_sums_interval(every, statistic, level)
    return {name: float(statistic(every.sum(axis=0))), f"{name}_low": low, f"{name}_high": high}


def comparison_text(rows: Sequence[Mapping[str, Any]], level: float = 0.95) -> str:
    """The rows of `comparison_rows` as aligned text, in per cent and points."""
    return "\n".join([align_columns(comparison_cells(rows, level)), *_comparison_notes(rows)])


def comparison_cells(rows: Sequence[Mapping[str, Any]], level: float = 0.95) -> list[list[str]]:
    """Header and rows: accuracy and macro-F1 of the class with gains, and macro-F1 of each factor."""
    scored = [key.removesuffix("_macro_f1") for key in rows[0] if key.endswith("_macro_f1")]
    factors = [name for name in scored if name != JOINT]
    interval, own = f"[{100 * level:g}%]", [f"{factor} F1 %" for factor in factors]
    cells = [["", f"accuracy % {interval}", f"macro-F1 % {interval}", f"gain {interval}", *own, "p"]]
    for row in rows:
        gain = _points(row, "class_macro_f1_gain") if row["class_macro_f1_gain"] is not None else NOTHING
        scores = [_with_interval(row, f"{JOINT}_{key}") for key in _SCORES]
        own = [f"{100 * row[f'{factor}_macro_f1']:.1f}" for factor in factors]
        cells.append([row["name"], *scores, gain, *own, format_p_value(row["p"])])
    return cells


def _comparison_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(rows) < 2:
        return []
    first = rows[0]["name"]
    notes = [f"gain: macro-F1 against {first}, in points, resampling groups; p: exact McNemar test against {first}"]
    notes += [f"{row['name']}: mean of {row['tables']} tables" for row in rows if row["tables"] > 1]
    return notes


def _with_interval(row: Mapping[str, Any], key: str) -> str:
    return f"{100 * row[key]:.1f} [{100 * row[f'{key}_low']:.1f}, {100 * row[f'{key}_high']:.1f}]"


def _points(row: Mapping[str, Any], key: str) -> str:
    return f"{100 * row[key]:+.1f} [{100 * row[f'{key}_low']:+.1f}, {100 * row[f'{key}_high']:+.1f}]"
