"""Figures of a search: completeness, legible labels, reproducible bytes, and a page without external resources."""

import logging
import random
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import optuna
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from soups.report.figures import search
from soups.report.figures.search import FIGURES, draw_search_figures

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-6, 1e-3, log=True),
    "epochs": IntDistribution(10, 25),
    "frozen": FloatDistribution(0.1, 0.1),
    "optimizer": CategoricalDistribution(('["a very long", "choice"]', "sgd")),
}


def study_of(values: list[float | None], names: tuple[str, ...] = tuple(DISTRIBUTIONS)) -> optuna.Study:
    """A study with these values, None for a trial that was pruned."""
    study, chance = optuna.create_study(direction="maximize"), random.Random(0)
    distributions = {name: DISTRIBUTIONS[name] for name in names}
    for value in values:
        drawn = {
            "lr": 10 ** chance.uniform(-6, -3),
            "epochs": chance.randint(10, 25),
            "frozen": 0.1,
            "optimizer": chance.choice(('["a very long", "choice"]', "sgd")),
        }
        params: dict[str, Any] = {name: drawn[name] for name in names}
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=value, params=params, distributions=distributions))
    return study


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Figure]]:
    """The folder, and the figures by name."""
    folder, figures = tmp_path_factory.mktemp("figures"), {}
    write = search.save_png

    def remember(figure: Figure, path: Path) -> None:
        figures[path.stem] = figure
        write(figure, path)

    before = dict(matplotlib.rcParams)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "save_png", remember)
        patch.setattr(search, "DOTS_PER_INCH", 60)
        files = draw_search_figures(study_of([0.5, 0.7, None, 0.6, 0.9, 0.8]), folder, "validation accuracy")
    assert [path.name for path in files] == [*(f"{name}.png" for name in FIGURES), "search.html"]
    assert dict(matplotlib.rcParams) == before
    return folder, figures


def test_labels_do_not_overlap(drawn: tuple[Path, dict[str, Figure]]) -> None:
    main, bar, *others = drawn[1]["parallel_coordinates"].axes
    renderer = FigureCanvasAgg(main.figure).get_renderer()  # type: ignore[arg-type]
    edge = max(each.get_tightbbox(renderer).x1 for each in others)  # type: ignore[union-attr]
    assert edge < bar.get_window_extent(renderer).x0
    for name, figure in drawn[1].items():
        renderer = FigureCanvasAgg(figure).get_renderer()
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                labels = [each for each in axis.get_ticklabels() if each.get_visible() and each.get_text()]
                boxes = [each.get_window_extent(renderer) for each in labels]
                turned = any(each.get_rotation() for each in labels)
                touching = [one.overlaps(other) for one, other in pairwise(boxes)]
                assert turned or not any(touching), (name, axis.get_label_text())


def test_ticks_are_values(drawn: tuple[Path, dict[str, Figure]]) -> None:
    panels = {axes.get_xlabel(): axes for axes in drawn[1]["slice"].axes}
    assert all(float(tick).is_integer() for tick in panels["epochs"].get_xticks())
    words = [label.get_text() for label in panels["optimizer"].get_xticklabels()]
    assert sorted(words) == ['["a ve…oice"]', "sgd"]
    best = drawn[1]["history"].axes[0].lines[0]
    assert best.get_drawstyle() == "steps-post" and list(best.get_ydata())[:2] == [0.5, 0.7]
    # What has one value for all trials has no contours.
    assert {axes.get_xlabel() for axes in drawn[1]["contour"].axes} - {""} == {"lr", "epochs", "optimizer"}


def test_the_page_has_no_external_resources(drawn: tuple[Path, dict[str, Figure]], tmp_path: Path) -> None:
    page = (drawn[0] / "search.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in page for name in FIGURES) and not re.search(r"<(script|link|img)[^>]*https?:", page)
    assert len(page) > 1_000_000  # Plotly itself is in it.
    assert page.count('"showSendToCloud": false') == len(FIGURES)


@pytest.mark.parametrize(
    ("values", "names", "left_out"),
    [
        ([0.5, 0.5], ("lr", "epochs"), "importances and contour"),
        ([0.5, None], ("lr", "epochs"), "importances and contour"),
        ([0.5, 0.6], ("frozen",), "importances and contour"),
        ([0.5, 0.6], ("lr", "frozen"), "contour"),
        ([0.5, 0.6], ("lr", "epochs"), ""),
    ],
)
def test_figures_without_enough_data_are_omitted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    values: list[float | None],
    names: tuple[str, ...],
    left_out: str,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(search, "_draw", lambda study, name, path, options: path)
    monkeypatch.setattr(search, "_write_page", lambda study, wanted, path, title: path)
    files = draw_search_figures(study_of(values, names), tmp_path, "validation accuracy")
    assert {path.stem for path in files} == {*FIGURES, "search"} - set(left_out.split(" and "))
    assert (f"no figure of {left_out}: it needs two complete trials that differ" in caplog.text) == bool(left_out)


def test_without_a_complete_trial_there_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert draw_search_figures(study_of([None]), tmp_path / "none", "validation accuracy") == []
    assert "no trial is complete: no figures" in caplog.text and not (tmp_path / "none").exists()


def test_without_plotly_only_png_files_are_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hide_packages: Callable[..., None],
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(search, "_draw", lambda study, name, path, options: path)
    hide_packages("plotly")
    files = draw_search_figures(study_of([0.5, 0.6]), tmp_path, "validation accuracy")
    assert files and all(path.suffix == ".png" for path in files)
    assert "no search.html: it needs plotly, which is not installed (pip install plotly)" in caplog.text


def test_the_same_trials_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "DOTS_PER_INCH", 60)
    study = study_of([0.5, 0.5], ("lr", "optimizer"))
    first = [path.read_bytes() for path in draw_search_figures(study, tmp_path / "first", "validation accuracy")]
    again = [path.read_bytes() for path in draw_search_figures(study, tmp_path / "again", "validation accuracy")]
    assert first == again
