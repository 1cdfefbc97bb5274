"""The command `main`: its requests are checked before a run is opened. What it does is tested in `end_to_end`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import main
from soups.pipeline.commands import main as main_command
from soups.pipeline.soup.make import SoupRequest
from tests.pipeline.small_run import make_context, make_run

PrintedText = Callable[[], str]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to do expected: one or more of --inspect"),
        (["--soup", "gredy"], "did you mean 'greedy'?"),
        (["--greedy-soup", "--uniform-soup", "--soup-name", "mine"], "expected: one recipe found: uniform, greedy"),
        (["--report", "--soup-name", "mine"], "--soup-name: one name for one soup expected: one recipe found: none"),
        (["--download-models"], "--download-models needs a folder"),
        (["--greedy-soup", "--soup-options", "size=3"], "none of the recipes has this option"),
        (["--report"], "no run yet"),
    ],
)
def test_invalid_requests(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed_text: PrintedText
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(arguments) == 2
    assert words in printed_text()
    assert not list(tmp_path.iterdir())


def test_listing_the_recipes_needs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["--list-recipes"]) == 0
    assert "wise_ft" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ([], {}),
        (["--accept", "equal"], {"accept": "equal"}),
        (["--strict"], {"accept": "better"}),
        (["--accept", "significant"], {"accept": "significant", "level": 0.05}),
        (["--accept", "significant", "--soup-options", "level=0.1"], {"accept": "significant", "level": 0.1}),
    ],
)
def test_the_request_of_a_greedy_soup(
    flags: list[str], options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    requests: list[tuple[SoupRequest, frozenset[str] | None]] = []
    monkeypatch.setattr(main_command, "open_or_import_pool", lambda parsed: parsed.settings)
    monkeypatch.setattr(main_command, "open_context", lambda *arguments, **keywords: make_context(run))
    monkeypatch.setattr(main_command, "warn_if_misordered", lambda context: None)
    monkeypatch.setattr(
        main_command, "make_soup", lambda context, request: requests.append((request, context.run.only))
    )
    chosen = ["--ingredients", "p0", "p10", "--budget-evaluations", "9", "--soup-name", "mine"]
    assert main.main(["--greedy-soup", *chosen, *flags]) == 0
    ((request, only),) = requests
    assert only == {"p0_epochs2", "p10_epochs2"}
    assert request == SoupRequest("greedy", options, evaluations=9, name="mine")
