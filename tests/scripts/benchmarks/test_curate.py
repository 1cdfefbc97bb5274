"""The benchmark of curation in its short form: that it runs, and that both ways select the same."""

import pytest

from tests.pipeline.commands.run_script import run


def test_the_benchmark_in_its_short_form(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--pool", "300", "--target", "50", "--features", "16", "--count", "20", "--repeats", "1"]
    assert run("benchmarks/curate", *arguments) == 0
    assert "the same 20 of 20 images" in capsys.readouterr().out
