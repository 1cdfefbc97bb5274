"""Learning curves: what a fine-tune's log says of loss, validation and learning rate, and a whole pool beside it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.metrics import METRICS
from soups.report.figures.style import BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, new_figure, plain, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WHOLE_EPOCHS = 10  # So many at the most have a tick each.


@dataclass(frozen=True)
class Course:
    """How one fine-tune went, epoch by epoch."""

    name: str
    losses: tuple[float, ...]
    """Mean over the images of epoch 1, 2, …, of what was trained by (with augmentation, smoothing and mixup)."""
    rates: tuple[float, ...]
    """The learning rate that the epoch ended with."""
    scores: dict[int, dict[str, float]]
    """Epoch → metric → value on the validation set, of the epochs that were validated."""
    kept: int
    """The epoch whose weights the model has."""
    probing: int = 0
    """How many epochs at the beginning trained the head alone, before the whole model was."""
    loss_name: str = "CrossEntropyLoss"

    @property
    def validated(self) -> list[int]:
        """The epochs that were validated, rising."""
        return sorted(self.scores)


def last_training(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines that count of a log of one training: a line takes the place of those of its epoch and of later ones.

    An epoch that was cut off and trained again has a second line only where it went another way.
    """
    counting: list[Mapping[str, Any]] = []
    for line in lines:
        while counting and counting[-1]["epoch"] >= line["epoch"]:
            counting.pop()
        counting.append(line)
    return counting


def course_of(
    lines: Sequence[Mapping[str, Any]], name: str, *, watched: str | None = None, loss_name: str = "CrossEntropyLoss"
) -> Course | None:
    """The last training that a log tells whole from its first epoch; None where it tells none.

    Args:
        lines: of `logs/training/<name>.jsonl` with the settings of the model, oldest first.
        name: of the model.
        watched: the metric by which the best epoch was kept; None: the last one was.
        loss_name: what was trained by.
    """
    last = last_training(lines)
    if [line["epoch"] for line in last] != list(range(1, len(last) + 1)) or not last:
        return None
    scores = {int(line["epoch"]): dict(line["val"]) for line in last if "val" in line}
    probing = sum(line["phase"] == "head" for line in last)
    probing = 0 if probing == len(last) else probing
    return Course(
        name=name,
        losses=tuple(line["loss"] for line in last),
        rates=tuple(line["lr"] for line in last),
        scores=scores,
        kept=_best({epoch: each for epoch, each in scores.items() if epoch > probing}, watched) or len(last),
        probing=probing,
        loss_name=loss_name,
    )


def _best(scores: Mapping[int, Mapping[str, float]], metric: str | None) -> int | None:
    """The epoch with the best score, the first of several alike."""
    if metric is None or not scores:
        return None
    sign = 1 if METRICS[metric].higher_is_better else -1
    return max(sorted(scores), key=lambda epoch: sign * scores[epoch][metric])


def draw_course(course: Course, path: Path, *, metric: str) -> None:
    """Draw one fine-tune as PNG: losses, validation by the metric (and accuracy), learning rate, over the epochs.

    Args:
        course: at least one epoch.
        path: the PNG file.
        metric: a key of `METRICS`.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    figure = _wide_figure(3.6)
    losses, scores, rates = figure.subplots(1, 3)
    epochs = range(1, len(course.losses) + 1)
    _line(losses, epochs, course.losses, BLUE, f"training, {course.loss_name}")
    if course.scores:
        _line(losses, course.validated, _values(course, "log_loss"), ORANGE, "validation, log loss")
        shown = dict.fromkeys([metric, "accuracy"] if metric != "log_loss" else ["accuracy"])
        for name, colour in zip(shown, (VERMILION, GREEN), strict=False):
            _line(scores, course.validated, _values(course, name), colour, _worded(name))
    _line(rates, epochs, course.rates, GREY, "at the end of the epoch")
    for axes, title in ((losses, "loss"), (scores, "validation"), (rates, "learning rate")):
        _describe(axes, title, len(course.losses))
        if axes.lines:
            axes.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=1, frameon=False)
        axes.axvline(course.kept, color=GREY, linewidth=1, linestyle=":", zorder=1)
        if course.probing:
            axes.axvspan(0.5, course.probing + 0.5, color="#F0F0F0", zorder=0)
    rates.set_ylim(bottom=0)
    told = f"{course.name}: the weights are those of epoch {course.kept}"
    told += f"; the head alone until epoch {course.probing}" if course.probing else ""
    figure.suptitle(plain(told), fontsize=12)
    save(figure, path)


def draw_pool(courses: Sequence[Course], path: Path, *, metric: str, title: str) -> None:
    """Draw all fine-tunes of a pool as PNG: training loss and validation by the metric; the best one stands out.

    Args:
        courses: at least one.
        path: the PNG file.
        metric: a key of `METRICS`.
        title: above the figure.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    figure = _wide_figure(4.2)
    losses, scores = figure.subplots(1, 2)
    ends = {course.name: course.scores[course.kept] for course in courses if course.kept in course.scores}
    sign = 1 if METRICS[metric].higher_is_better else -1
    best = max(ends, key=lambda name: sign * ends[name][metric]) if ends else None
    for course in sorted(courses, key=lambda each: each.name == best):  # The best last, on top of the others.
        style = {"color": VERMILION if course.name == best else SKY, "alpha": 1.0 if course.name == best else 0.7}
        width, size = (2.2, 7) if course.name == best else (1.2, 4)
        for axes, epochs, values in (
            (losses, range(1, len(course.losses) + 1), course.losses),
            (scores, course.validated, _values(course, metric)),
        ):
            axes.plot(list(epochs), list(values), linewidth=width, **style)
            if course.kept in epochs:
                kept = list(values)[list(epochs).index(course.kept)]
                axes.plot([course.kept], [kept], marker="o", markersize=size, linestyle="", **style)
    longest = max(len(course.losses) for course in courses)
    _describe(losses, "training loss", longest)
    _describe(scores, f"validation {_worded(metric)}", longest)
    told = f"{title}; a dot where the weights are taken"
    told += f"\n{best} is the best by validation {_worded(metric)}: {ends[best][metric]:.4g}" if best else ""
    figure.suptitle(plain(told), fontsize=12)
    save(figure, path)


def _wide_figure(height: float) -> "Figure":
    """A figure for axes side by side, whose labels do not touch the neighbours."""
    figure = new_figure(10.5, height)
    figure.set_layout_engine("constrained", w_pad=0.12)  # inches
    return figure


def _values(course: Course, metric: str) -> list[float]:
    return [course.scores[epoch][metric] for epoch in course.validated]


def _worded(metric: str) -> str:
    return metric.replace("_", " ")


def _line(axes: "Axes", epochs: Sequence[int], values: Sequence[float], colour: str, label: str) -> None:
    dots = "o" if len(values) <= 40 else ""
    axes.plot(list(epochs), list(values), color=colour, linewidth=1.8, marker=dots, markersize=4, label=label, zorder=2)


def _describe(axes: "Axes", title: str, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=11)
    axes.set_xlabel("epoch", fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=min(epochs + 1, _WHOLE_EPOCHS), integer=True))
    axes.set_xlim(0.5, epochs + 0.5)
    axes.grid(True, color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
