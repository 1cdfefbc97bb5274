"""Learning curves from a fine-tune's log: loss, validation and learning rate, for one model and for a whole pool."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.metrics import METRICS
from soups.report.figures.style import BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, escape_math, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_TICKS = 10
"""Maximum number of epochs with a tick scores_of_epoch."""


@dataclass(frozen=True)
class TrainingCurve:
    """The curve of one fine-tune by epoch."""

    name: str
    losses: tuple[float, ...]
    """Mean training loss over the images of epoch 1, 2, … (with augmentation, smoothing and mixup)."""
    rates: tuple[float, ...]
    """Learning rate at the end of scores_of_epoch epoch."""
    scores: dict[int, dict[str, float]]
    """Epoch → metric → value on the validation set, for the validated epochs."""
    selected_epoch: int
    """Epoch whose weights the model has."""
    head_epochs: int = 0
    """Number of first epochs that trained only the head."""
    loss_name: str = "CrossEntropyLoss"

    @property
    def validated(self) -> list[int]:
        """Validated epochs, rising."""
        return sorted(self.scores)


def drop_superseded(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the valid lines of a log: a line supersedes earlier lines of its epoch and of later epochs.

    An epoch that was interrupted and trained again has a second line only if its values differ.
    """
    counting: list[Mapping[str, Any]] = []
    for line in lines:
        while counting and counting[-1]["epoch"] >= line["epoch"]:
            counting.pop()
        counting.append(line)
    return counting


def curve_from_log(
    lines: Sequence[Mapping[str, Any]], name: str, *, watched: str | None = None, loss_name: str = "CrossEntropyLoss"
) -> TrainingCurve | None:
    """Return the curve of the last training in a log; None if the log does not have all its epochs from the first.

    Args:
        lines: of `logs/training/<name>.jsonl` with the settings of the model, oldest first.
        name: of the model.
        watched: metric that selected the best epoch; None: the last epoch was selected.
        loss_name: name of the training loss.
    """
    last = drop_superseded(lines)
    if [line["epoch"] for line in last] != list(range(1, len(last) + 1)) or not last:
        return None
    scores = {int(line["epoch"]): dict(line["val"]) for line in last if "val" in line}
    head_epochs = sum(line["phase"] == "head" for line in last)
    head_epochs = 0 if head_epochs == len(last) else head_epochs
    return TrainingCurve(
        name=name,
        losses=tuple(line["loss"] for line in last),
        rates=tuple(line["lr"] for line in last),
        scores=scores,
        selected_epoch=_best_epoch({epoch: values for epoch, values in scores.items() if epoch > head_epochs}, watched)
        or len(last),
        head_epochs=head_epochs,
        loss_name=loss_name,
    )


def _best_epoch(scores: Mapping[int, Mapping[str, float]], metric: str | None) -> int | None:
    """Return the epoch with the best score, the first of equal ones; None without a metric or scores."""
    if metric is None or not scores:
        return None
    sign = 1 if METRICS[metric].higher_is_better else -1
    return max(sorted(scores), key=lambda epoch: sign * scores[epoch][metric])


def draw_training_curve(curve: TrainingCurve, path: Path, *, metric: str) -> None:
    """Draw one fine-tune as PNG: losses, validation by the metric (and accuracy), and learning rate over the epochs.

    Args:
        curve: at least one epoch.
        path: the PNG file.
        metric: a key of `METRICS`.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    figure = _wide_figure(3.6)
    losses, scores, rates = figure.subplots(1, 3)
    epochs = range(1, len(curve.losses) + 1)
    _plot_line(losses, epochs, curve.losses, BLUE, f"training, {curve.loss_name}")
    if curve.scores:
        _plot_line(losses, curve.validated, _metric_values(curve, "log_loss"), ORANGE, "validation, log loss")
        shown = dict.fromkeys([metric, "accuracy"] if metric != "log_loss" else ["accuracy"])
        for name, colour in zip(shown, (VERMILION, GREEN), strict=False):
            _plot_line(scores, curve.validated, _metric_values(curve, name), colour, _metric_words(name))
    _plot_line(rates, epochs, curve.rates, GREY, "at the end of the epoch")
    for axes, title in ((losses, "loss"), (scores, "validation"), (rates, "learning rate")):
        _style_axes(axes, title, len(curve.losses))
        if axes.lines:
            axes.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=1, frameon=False)
        axes.axvline(curve.selected_epoch, color=GREY, linewidth=1, linestyle=":", zorder=1)
        if curve.head_epochs:
            axes.axvspan(0.5, curve.head_epochs + 0.5, color="#F0F0F0", zorder=0)
    rates.set_ylim(bottom=0)
    heading = f"{curve.name}: the weights are those of epoch {curve.selected_epoch}"
    heading += f"; the head alone until epoch {curve.head_epochs}" if curve.head_epochs else ""
    figure.suptitle(escape_math(heading), fontsize=12)
    save_png(figure, path)


def draw_pool_curves(curves: Sequence[TrainingCurve], path: Path, *, metric: str, title: str) -> None:
    """Draw all fine-tunes of a pool as PNG: training loss and validation by the metric; the best one is highlighted.

    Args:
        curves: at least one.
        path: the PNG file.
        metric: a key of `METRICS`.
        title: above the figure.

    Raises:
        EnvironmentFailure: the file cannot be written.
    """
    figure = _wide_figure(4.2)
    losses, scores = figure.subplots(1, 2)
    ends = {curve.name: curve.scores[curve.selected_epoch] for curve in curves if curve.selected_epoch in curve.scores}
    sign = 1 if METRICS[metric].higher_is_better else -1
    best = max(ends, key=lambda name: sign * ends[name][metric]) if ends else None
    for curve in sorted(curves, key=lambda curve: curve.name == best):  # The best is drawn last, on top of the others.
        style = {"color": VERMILION if curve.name == best else SKY, "alpha": 1.0 if curve.name == best else 0.7}
        width, size = (2.2, 7) if curve.name == best else (1.2, 4)
        for axes, epochs, values in (
            (losses, range(1, len(curve.losses) + 1), curve.losses),
            (scores, curve.validated, _metric_values(curve, metric)),
        ):
            axes.plot(list(epochs), list(values), linewidth=width, **style)
            if curve.selected_epoch in epochs:
                value = list(values)[list(epochs).index(curve.selected_epoch)]
                axes.plot([curve.selected_epoch], [value], marker="o", markersize=size, linestyle="", **style)
    longest = max(len(curve.losses) for curve in curves)
    _style_axes(losses, "training loss", longest)
    _style_axes(scores, f"validation {_metric_words(metric)}", longest)
    heading = f"{title}; a dot where the weights are taken"
    heading += f"\n{best} is the best by validation {_metric_words(metric)}: {ends[best][metric]:.4g}" if best else ""
    figure.suptitle(escape_math(heading), fontsize=12)
    save_png(figure, path)


def _wide_figure(height: float) -> "Figure":
    """Return a figure for axes side by side, whose labels do not touch."""
    figure = new_figure(10.5, height)
    figure.set_layout_engine("constrained", w_pad=0.12)  # inches
    return figure


def _metric_values(curve: TrainingCurve, metric: str) -> list[float]:
    return [curve.scores[epoch][metric] for epoch in curve.validated]


def _metric_words(metric: str) -> str:
    return metric.replace("_", " ")


def _plot_line(axes: "Axes", epochs: Sequence[int], values: Sequence[float], colour: str, label: str) -> None:
    dots = "o" if len(values) <= 40 else ""
    axes.plot(list(epochs), list(values), color=colour, linewidth=1.8, marker=dots, markersize=4, label=label, zorder=2)


def _style_axes(axes: "Axes", title: str, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=11)
    axes.set_xlabel("epoch", fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=min(epochs + 1, _MAX_TICKS), integer=True))
    axes.set_xlim(0.5, epochs + 0.5)
    axes.grid(True, color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
