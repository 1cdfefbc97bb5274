"""Shortened names, and PNG files that are reproducible to the byte."""

from pathlib import Path

from soups.report.figures.style import escape_math, new_figure, save_png, shorten, shorten_names


def test_long_names_are_cut_in_the_middle() -> None:
    assert shorten("short", 5) == "short" and shorten("a long name", 5) == "a …me"
    assert shorten_names(["kitten_a_1", "kitten_b_1", "dog"], 5) == ["0 k…1", "1 k…1", "dog"]
    assert escape_math("$a$") == r"\$a\$"


def test_equal_figures_have_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        figure = new_figure(1.0, 1.0)
        figure.add_subplot().set_title("$")
        save_png(figure, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
