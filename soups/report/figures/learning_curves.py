"""Learning curves from a fine-tune's log: loss, validation and learning rate, for one model and for a whole pool."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.metrics import METRICS
from soups.report.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_TICKS = 10
"""Maximum number of epochs with a tick each."""


@dataclass(frozen=True)
class TrainingCurve:
    """The curve of one fine-tune by epoch."""

    name: str
    losses: tuple[float, ...]
    """Mean training loss over the images of epoch 1, 2, … (with augmentation, smoothing and mixup)."""
    rates: tuple[float, ...]
    """Learning rate at the end of each epoch."""
    scores: dict[int, dict[str, float]]
    """Epoch → metric → value on the validation set, for the validated epochs, rising."""
    selected_epoch: int
    """Epoch whose weights the model has."""
    head_epochs: int = 0
    """Number of first epochs that trained only the head."""
    loss_name: str = "CrossEntropyLoss"


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
    if head_epochs == len(last):
        head_epochs = 0
    selected, eligible = len(last), [epoch for epoch in scores if epoch > head_epochs]
    if watched is not None and eligible:
        selected = max(eligible, key=lambda epoch: _sign(watched) * scores[epoch][watched])  # The first of equal ones.
    losses, rates = tuple(line["loss"] for line in last), tuple(line["lr"] for line in last)
    return TrainingCurve(name, losses, rates, scores, selected, head_epochs, loss_name)


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
    _plot_line(losses, _by_epoch(curve.losses), style.BLUE, f"training, {curve.loss_name}")
    if curve.scores:
        _plot_line(losses, _validation(curve, "log_loss"), style.ORANGE, "validation, log loss")
        shown = dict.fromkeys([metric, "accuracy"] if metric != "log_loss" else ["accuracy"])
        for name, colour in zip(shown, (style.VERMILION, style.GREEN), strict=False):
            _plot_line(scores, _validation(curve, name), colour, name.replace("_", " "))
    _plot_line(rates, _by_epoch(curve.rates), style.GREY, "at the end of the epoch")
    for axes, title in ((losses, "loss"), (scores, "validation"), (rates, "learning rate")):
        _format_axes(axes, title, len(curve.losses))
        if axes.lines:
            axes.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=1, frameon=False)
        axes.axvline(curve.selected_epoch, color=style.GREY, linewidth=1, linestyle=":", zorder=1)
        if curve.head_epochs:
            axes.axvspan(0.5, curve.head_epochs + 0.5, color="#F0F0F0", zorder=0)
    rates.set_ylim(bottom=0)
    heading = f"{curve.name}: the weights are those of epoch {curve.selected_epoch}"
    heading += f"; the head alone until epoch {curve.head_epochs}" if curve.head_epochs else ""
    figure.suptitle(style.escape_math(heading), fontsize=12)
    style.save_png(figure, path)


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
    best = max(ends, key=lambda name: _sign(metric) * ends[name][metric], default=None)
    for curve in sorted(curves, key=lambda curve: curve.name == best):  # The best is drawn last, on top of the others.
        colour, alpha, width, size = (style.VERMILION, 1.0, 2.2, 7) if curve.name == best else (style.SKY, 0.7, 1.2, 4)
        for axes, values in ((losses, _by_epoch(curve.losses)), (scores, _validation(curve, metric))):
            axes.plot(list(values), list(values.values()), color=colour, alpha=alpha, linewidth=width)
            if curve.selected_epoch in values:
                place, height = [curve.selected_epoch], [values[curve.selected_epoch]]
                axes.plot(place, height, color=colour, alpha=alpha, marker="o", markersize=size, linestyle="")
    words, longest = metric.replace("_", " "), max(len(curve.losses) for curve in curves)
    _format_axes(losses, "training loss", longest)
    _format_axes(scores, f"validation {words}", longest)
    heading = f"{title}; a dot where the weights are taken"
    heading += f"\n{best} is the best by validation {words}: {ends[best][metric]:.4g}" if best else ""
    figure.suptitle(style.escape_math(heading), fontsize=12)
    style.save_png(figure, path)


def _sign(metric: str) -> int:
    return 1 if METRICS[metric].higher_is_better else -1


def _by_epoch(values: Sequence[float]) -> dict[int, float]:
    return dict(enumerate(values, start=1))


def _validation(curve: TrainingCurve, metric: str) -> dict[int, float]:
    """Return epoch → score for the validated epochs."""
    return {epoch: values[metric] for epoch, values in curve.scores.items()}


def _wide_figure(height: float) -> "Figure":
    """Return a figure for axes side by side, whose labels do not touch."""
    figure = style.new_figure(10.5, height)
    figure.set_layout_engine("constrained", w_pad=0.12)  # inches
    return figure


def _plot_line(axes: "Axes", values: Mapping[int, float], colour: str, label: str) -> None:
    marks: dict[str, Any] = {"marker": "o" if len(values) <= 40 else "", "markersize": 4}
    axes.plot(list(values), list(values.values()), color=colour, linewidth=1.8, label=label, zorder=2, **marks)


def _format_axes(axes: "Axes", title: str, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator

    style.format_axes(axes, title, "epoch", sizes=(11, 10))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=min(epochs + 1, _MAX_TICKS), integer=True))
    axes.set_xlim(0.5, epochs + 0.5)
