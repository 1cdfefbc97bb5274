"""Validation report: scores with intervals, of the class and of each factor, scores by class, frequent mistakes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from soups.core.statistics import accuracy_from_sums, bootstrap_sums_interval, macro_f1_from_sums, mcnemar
from soups.report.answers import JOINT, LabelledPredictions
from soups.report.per_class import class_scores, class_table, confusion_text
from soups.report.tables import align_columns, format_interval, format_p_value, format_percent, table_cells

_SCORES_FROM_SUMS = {"accuracy": accuracy_from_sums, "macro_f1": macro_f1_from_sums}
_MAX_MISTAKES = 10
"""Maximum number of pairs of classes in the table of frequent mistakes."""


def score_rows(answers: LabelledPredictions) -> list[dict[str, Any]]:
    """Return accuracy and macro-F1 with 95% intervals, of the class and of each factor.

    Returns:
        Dicts with `of`, `accuracy`, `accuracy_low`, `accuracy_high`, `macro_f1`, … (in [0, 1]), `images`, `groups`.
    """
    rows = []
    for name, part in answers.by_factor().items():
        row: dict[str, Any] = {"of": name}
        for key, score in _SCORES_FROM_SUMS.items():
            row[key] = float(score(part.sums.sum(axis=0)))
            row[f"{key}_low"], row[f"{key}_high"] = bootstrap_sums_interval(part.sums, score)
        rows.append(row | {"images": len(part.labels), "groups": len(part.sums)})
    return rows


def score_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `score_rows` as aligned text, in per cent."""
    cells = [["", "accuracy % [95%]", "macro-F1 % [95%]", "images", "groups"]]
    for row in rows:
        scores = [format_interval(row, key) for key in _SCORES_FROM_SUMS]
        cells.append([row["of"], *scores, str(row["images"]), str(row["groups"])])
    return align_columns(cells)


def class_rows(answers: LabelledPredictions) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and support of every class and every level: dicts with `of` and `class`."""
    return [
        {"of": name, **row}
        for name, part in answers.by_factor().items()
        for row in class_scores(part.matrix, part.space.names)
    ]


def frequent_mistakes(answers: LabelledPredictions) -> list[tuple[str, str, int, int]]:
    """Return the most frequent confusions: truth, prediction, their images, all images of that truth."""
    matrix, names = answers.matrix, answers.space.names
    wrong = matrix - np.diag(np.diagonal(matrix))
    places = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_MISTAKES]
    return [
        (names[truth], names[prediction], int(wrong[truth, prediction]), int(matrix[truth].sum()))
        for truth, prediction in zip(*np.unravel_index(places, wrong.shape), strict=True)
        if wrong[truth, prediction]
    ]


def validation_text(name: str, answers: LabelledPredictions, description: str = "validation images") -> str:
    """Return the whole report on one model or table as text.

    Args:
        name: of the model or table.
        answers: its predictions and the labels.
        description: what the images are, for the first line.
    """
    right = int((answers.labels == answers.predictions).sum())
    share = f"{100 * right / len(answers.labels):.1f}%"
    blocks = [
        f"{name}: {right} of {len(answers.labels)} {description} right ({share})",
        score_table(score_rows(answers)) + "\n(intervals: resampling groups)",
    ]
    parts = answers.by_factor()
    for of, part in parts.items():
        matrix, names = part.matrix, part.space.names
        heading = f"— {of} —\n" if len(parts) > 1 else ""
        blocks += [heading + class_table(matrix, names), confusion_text(matrix, names)]
        mistakes = [
            [f"{truth} → {prediction}", str(count), str(images), f"{100 * count / images:.1f}"]
            for truth, prediction, count, images in frequent_mistakes(part)
        ]
        if mistakes:
            blocks.append(align_columns([["truth → prediction", "images", "of", "%"], *mistakes]))
    return "\n\n".join(blocks)


def comparison_rows(named: Mapping[str, Sequence[LabelledPredictions]]) -> list[dict[str, Any]]:
    """Compare predictions of the same images with the first of them.

    If an entry has several predictions (of models that differ in their seed alone), its scores are their means, so that
    the seed has less influence.

    Args:
        named: name → one or more predictions of the same images.

    Returns:
        A dict for each, with `name` and `tables` (number of predictions), and for the class and each factor
        (`class_accuracy`, `age_macro_f1`, …) the score with `_low` and `_high`, its gain over the first with `_gain`,
        `_gain_low`, `_gain_high` (95% intervals; both face the same resampled groups), and `p`: exact McNemar test of
        the class against the first, for single predictions; gains and p are None in the first row.
    """
    rows: list[dict[str, Any]] = []
    first = next(iter(named.values()))
    for name, several in named.items():
        row: dict[str, Any] = {"name": name, "tables": len(several)}
        for of in several[0].by_factor():
            own, other = ([each.by_factor()[of].sums for each in group] for group in (several, first))
            for key, score in _SCORES_FROM_SUMS.items():
                row |= _mean_with_interval(f"{of}_{key}", own, [], score)
                gain = _mean_with_interval(f"{of}_{key}_gain", own, other, score)
                row |= gain if rows else dict.fromkeys(gain)
        single = len(several) == len(first) == 1 and bool(rows)
        right = [each.labels == each.predictions for each in (several[0], first[0])]
        rows.append(row | {"p": mcnemar(*right) if single else None})
    return rows


def _mean_with_interval(
    name: str, own: Sequence[np.ndarray], other: Sequence[np.ndarray], score: Any
) -> dict[str, float]:
    """Return the mean score of predictions, minus that of others of the same images, with its interval."""
    every = np.hstack([*own, *other])

    def statistic(sums: np.ndarray) -> np.ndarray:
        parts = [score(part) for part in np.split(sums, len(own) + len(other), axis=-1)]
        mean = np.mean(parts[: len(own)], axis=0)
        return mean - np.mean(parts[len(own) :], axis=0) if other else mean

    low, high = bootstrap_sums_interval(every, statistic)
    return {name: float(statistic(every.sum(axis=0))), f"{name}_low": low, f"{name}_high": high}


def comparison_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `comparison_rows` as aligned text, in per cent and points, with notes below.

    The columns are accuracy and macro-F1 of the class, the gain in macro-F1, and the macro-F1 of each factor.
    """
    scored = [key.removesuffix("_macro_f1") for key in rows[0] if key.endswith("_macro_f1")]
    cells = [
        {
            "": row["name"],
            "accuracy % [95%]": format_interval(row, f"{JOINT}_accuracy"),
            "macro-F1 % [95%]": format_interval(row, f"{JOINT}_macro_f1"),
            "gain [95%]": format_interval(row, f"{JOINT}_macro_f1_gain", "+.1f"),
            **{f"{name} F1 %": format_percent(row[f"{name}_macro_f1"]) for name in scored if name != JOINT},
            "p": format_p_value(row["p"]),
        }
        for row in rows
    ]
    notes = []
    if len(rows) > 1:
        first = rows[0]["name"]
        notes = [f"gain: macro-F1 against {first}, in points, resampling groups; p: exact McNemar test against {first}"]
        notes += [f"{row['name']}: mean of {row['tables']} tables" for row in rows if row["tables"] > 1]
    return align_columns(table_cells(cells), notes)
