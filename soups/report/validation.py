"""Validation report: scores with intervals, of the class and of each factor, scores by class, frequent mistakes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from soups.core.scores import calibration_error
from soups.core.statistics import accuracy_from_sums, bootstrap_sums_intervals, macro_f1_from_sums, mcnemar
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
    for of, part in answers.by_factor().items():
        scores = _scores_with_intervals({"": [part.sums]}, {})
        rows.append({"of": of, **scores, "images": len(part.labels), "groups": len(part.sums)})
    return rows


def score_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `score_rows` as aligned text, in per cent."""
    cells = [["", "accuracy % [95%]", "macro-F1 % [95%]", "images", "groups"]]
    for row in rows:
        scores = [format_interval(row, key) for key in _SCORES_FROM_SUMS]
        cells.append([row["of"], *scores, str(row["images"]), str(row["groups"])])
    return align_columns(cells)


def _probability_lines(answers: LabelledPredictions) -> list[str]:
    """Return log-loss and calibration error as a line, if the probabilities are known."""
    if answers.probabilities is None:
        return []
    row = _log_losses([[answers]])[0]
    gap = calibration_error(answers.probabilities, answers.labels)
    return [f"log-loss {_format_log_loss(row)}, calibration error {100 * gap:.1f}%"]


def _log_losses(entries: Sequence[Sequence[LabelledPredictions]]) -> list[dict[str, float | None]]:
    """Return the mean log-loss of each entry's predictions with its interval, and its gain over the first entry.

    Args:
        entries: one or more predictions each, all with probabilities of the same images.
    """
    groups = np.unique(entries[0][0].groups, return_inverse=True)[1]
    rows = np.arange(len(groups))

    def by_group(answers: LabelledPredictions) -> np.ndarray:
        assert answers.probabilities is not None
        of_truth = answers.probabilities[rows, answers.labels].astype(np.float64)
        return np.bincount(groups, -np.log(np.clip(of_truth, np.finfo(np.float64).eps, 1.0)))

    losses = [np.mean([by_group(each) for each in entry], axis=0) for entry in entries]
    sums = np.column_stack([*losses, np.bincount(groups)])

    def statistics(drawn: np.ndarray) -> np.ndarray:
        means = drawn[..., :-1] / drawn[..., -1:]
        return np.concatenate([means, means - means[..., :1]], axis=-1)

    values, intervals = statistics(sums.sum(axis=0)), bootstrap_sums_intervals(sums, statistics)
    found: list[dict[str, float | None]] = []
    for index in range(len(entries)):
        row: dict[str, float | None] = {}
        for key, place in (("log_loss", index), ("log_loss_change", index + len(entries))):
            numbers = (float(values[place]), *intervals[place])
            known = index > 0 or key == "log_loss"
            row |= dict(zip((key, f"{key}_low", f"{key}_high"), numbers if known else (None,) * 3, strict=True))
        found.append(row)
    return found


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
        "\n".join([score_table(score_rows(answers)), *_probability_lines(answers), "(intervals: resampling groups)"]),
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
        the class against the first, for single predictions; gains and p are None in the first row. If all predictions
        have probabilities, also `log_loss` and `log_loss_change` against the first, each with `_low` and `_high`.
    """
    rows: list[dict[str, Any]] = []
    first = next(iter(named.values()))
    first_sums = _sums_by_factor(first)
    for name, several in named.items():
        row: dict[str, Any] = {"name": name, "tables": len(several)}
        row |= _scores_with_intervals(_sums_by_factor(several), first_sums)
        if not rows:
            row |= {key: None for key in row if "_gain" in key}
        single = len(several) == len(first) == 1 and bool(rows)
        right = [each.labels == each.predictions for each in (several[0], first[0])]
        rows.append(row | {"p": mcnemar(*right) if single else None})
    if all(each.probabilities is not None for several in named.values() for each in several):
        return [row | losses for row, losses in zip(rows, _log_losses(list(named.values())), strict=True)]
    return rows


def _sums_by_factor(several: Sequence[LabelledPredictions]) -> dict[str, list[np.ndarray]]:
    parts = [each.by_factor() for each in several]
    return {f"{of}_": [part[of].sums for part in parts] for of in parts[0]}


def _scores_with_intervals(
    own: Mapping[str, Sequence[np.ndarray]], other: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, Any]:
    """Return the mean scores of predictions and their gains over others of the same images, with intervals.

    Args:
        own: prefix of the keys, such as `class_`, → sums by group of one or more predictions.
        other: those of the others; empty: no gains.

    Returns:
        Dict with `class_accuracy`, `class_accuracy_low`, `class_accuracy_high`, `class_accuracy_gain`, … All face the
        same resampled groups.
    """
    blocks = [block for prefix in own for block in (*own[prefix], *other.get(prefix, ()))]
    every, ends = np.hstack(blocks), np.cumsum([block.shape[1] for block in blocks])

    def scores(sums: np.ndarray) -> dict[str, np.ndarray]:
        parts, found = iter(np.split(sums, ends[:-1], axis=-1)), {}
        for prefix in own:
            mine, others = [next(parts) for _ in own[prefix]], [next(parts) for _ in other.get(prefix, ())]
            for name, score in _SCORES_FROM_SUMS.items():
                found[prefix + name] = mean = np.mean([score(part) for part in mine], axis=0)
                if others:
                    found[f"{prefix}{name}_gain"] = mean - np.mean([score(part) for part in others], axis=0)
        return found

    values = scores(every.sum(axis=0))
    intervals = bootstrap_sums_intervals(every, lambda sums: np.stack([*scores(sums).values()], axis=-1))
    row: dict[str, Any] = {}
    for (key, value), (low, high) in zip(values.items(), intervals, strict=True):
        row |= {key: float(value), f"{key}_low": low, f"{key}_high": high}
    return row


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
            **({"log-loss [95%]": _format_log_loss(row)} if "log_loss" in row else {}),
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


def _format_log_loss(row: Mapping[str, Any]) -> str:
    return "{log_loss:.3f} [{log_loss_low:.3f}, {log_loss_high:.3f}]".format(**row)
