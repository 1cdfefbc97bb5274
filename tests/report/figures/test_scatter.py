"""The paper's figure: points from records, and files with equal bytes."""

from pathlib import Path

import pytest

from soups.core.errors import DataError
from soups.report.figures.scatter import (
    ORIGINAL_SHIFTS,
    ORIGINAL_TEST,
    ORIGINAL_VAL,
    Point,
    draw_scatter,
    guess_kind,
    points_from_records,
    shift_names,
)

RECORDS = [
    {"model_name": "digits0_epochs8", "val": 0.9, "test": 0.8, "noise": 0.5, "blur": 0.7, "metrics": {}, "sha256": "a"},
    {"model_name": "digits_start", "val": 0.5, "test": 0.4, "noise": 0.2, "blur": 0.3},
    {"model_name": "digits_greedy_soup", "val": 0.9, "test": 0.9, "noise": 0.6, "blur": 0.8},
]


def test_points_are_test_and_mean_over_shifts() -> None:
    points = points_from_records(RECORDS, shifts=shift_names(RECORDS))
    assert points == [
        Point("digits0_epochs8", "individual", 0.8, pytest.approx(0.6)),
        Point("digits_start", "start", 0.4, pytest.approx(0.25)),
        Point("digits_greedy_soup", "greedy", 0.9, pytest.approx(0.7)),
    ]


def test_shift_names_are_all_other_sets() -> None:
    assert shift_names(RECORDS) == ("noise", "blur")
    assert shift_names([{"model_name": "m", "val": 1.0, "test": 1.0, "seconds": 12.5}]) == ()


def test_the_last_record_of_a_model_is_used_and_incomplete_ones_are_left_out() -> None:
    again = {"model_name": "digits0_epochs8", "test": 0.85, "noise": 0.6, "blur": 0.8}
    unfinished = {"model_name": "digits1", "val": 0.9, "test": 0.9, "noise": 0.1}
    points = points_from_records([*RECORDS, again, unfinished], shifts=("noise", "blur"))
    assert [point.name for point in points] == ["digits0_epochs8", "digits_start", "digits_greedy_soup"]
    assert points[0].test == 0.85


def test_result_files_of_the_original_code() -> None:
    values = dict(zip(ORIGINAL_SHIFTS, (0.6, 0.7, 0.5, 0.4, 0.3), strict=True))
    records = [{"model_name": f"model_{i}", ORIGINAL_VAL: 0.8, ORIGINAL_TEST: 0.7 + i / 10} | values for i in range(2)]
    assert set(shift_names(records, ORIGINAL_VAL, ORIGINAL_TEST)) == set(ORIGINAL_SHIFTS)
    points = points_from_records(records, test=ORIGINAL_TEST, shifts=ORIGINAL_SHIFTS, kinds={"model_0": "start"})
    assert points == [
        Point("model_0", "start", 0.7, pytest.approx(0.5)),
        Point("model_1", "individual", pytest.approx(0.8), pytest.approx(0.5)),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("digits3_epochs16.safetensors", "individual"),
        ("model_7", "individual"),
        ("start", "start"),
        ("digits_start.safetensors", "start"),
        ("digits_uniform_soup", "uniform"),
        ("uniform_soup", "uniform"),
        ("digits_greedy_soup.pt", "greedy"),
        ("digits_learned_soup", "learned"),
        ("digits_fisher_soup", "soup"),
        ("digits_greedy_log_loss_soup", "soup"),
        ("soup", "soup"),
        ("soft-voting", "ensemble"),
        ("hard vote", "ensemble"),
        ("digits_weighted_ensemble", "ensemble"),
        ("soup_kitchen0_epochs8", "individual"),
        ("starters1_epochs8", "individual"),
    ],
)
def test_kinds_by_name(name: str, kind: str) -> None:
    assert guess_kind(name) == kind


def test_without_points_the_error_names_the_known_sets() -> None:
    with pytest.raises(DataError, match=r"no model has results on ImageNet, ObjectNet(?s:.*)blur, noise, test, val"):
        points_from_records(RECORDS, test="ImageNet", shifts=("ObjectNet",))
    with pytest.raises(DataError, match="at least one shift set"):
        points_from_records(RECORDS, shifts=())


def test_figures_have_equal_bytes_with_every_kind(tmp_path: Path) -> None:
    from PIL import Image

    points = points_from_records(RECORDS, shifts=("noise", "blur"))
    points += [Point(kind, kind, 0.6, 0.5) for kind in ("uniform", "learned", "ensemble", "soup")]  # type: ignore[arg-type]
    for name in ("one.png", "two.png"):
        draw_scatter(points, tmp_path / name, title="$ costs & 中文", shifts=("noise", "blur"))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert min(picture.size) > 600 and len(picture.getcolors(10**6) or []) > 50
        assert not {"Software", "Creation Time"} & set(picture.info)
    draw_scatter(points[:1], tmp_path / "single.png", title="one", shifts=())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "single.png", "two.png"]


def test_a_distant_start_is_named_in_the_legend_and_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr("soups.report.figures.style.save_png", lambda figure, path: figures.append(figure))
    near = [Point("a", "individual", 0.90, 0.70), Point("b", "individual", 0.92, 0.72)]
    for start in (Point("s", "start", 0.5, 0.3), Point("s", "start", 0.89, 0.69)):
        draw_scatter([*near, start], tmp_path / "unused.png", title="start", shifts=("noise",))
    legends = [[text.get_text() for text in figure.axes[0].get_legend().get_texts()] for figure in figures]
    assert legends == [["fine-tunes (2)", "start (outside: 50.0, 30.0)"], ["fine-tunes (2)", "start, not fine-tuned"]]
    assert figures[0].axes[0].get_xlim()[0] > 80 and figures[1].axes[0].get_xlim()[0] < 89


def test_drawing_leaves_no_global_state() -> None:
    import subprocess
    import sys

    code = (
        "import sys, tempfile, pathlib\n"
        "from soups.report.figures.scatter import Point, draw_scatter\n"
        "assert 'matplotlib' not in sys.modules\n"
        "path = pathlib.Path(tempfile.mkdtemp()) / 'a.png'\n"
        "draw_scatter([Point('a', 'individual', 0.5, 0.5)], path, title='', shifts=())\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
