"""Code blocks of README and docs: each is run on the toy run, or its flags are parsed."""

import re
from pathlib import Path

import pytest

from soups.cli.flags import parse
from soups.cli.help import flag_names
from tests.docs.pages import PAGES, ROOT, RUNS, SCRIPTS, Block, blocks, command_lines, text_of, words
from tools.docs_site.commands import find_command

BLOCKS = [block for page in PAGES for block in blocks(page)]
CODE = [block for block in BLOCKS if block.language in ("bash", "python")]
RUN = [block for block in CODE if block.runs]
NOT_OURS = ("bash", "pip", ".", "conda", "cd")
"""First words of lines that call no command of ours."""


def test_every_block_of_code_says_whether_it_runs() -> None:
    silent = [block.place for block in CODE if not (block.runs or re.fullmatch(r"not run: \S.*", block.mark))]
    assert not silent, f"above these blocks stands neither `{RUNS}` nor `not run: REASON`"
    assert {block.language for block in BLOCKS} <= {"bash", "python", "text", "yaml", "toml"}


def test_pages_have_blocks_of_both_kinds() -> None:
    assert len(RUN) >= 15
    assert {block.page for block in RUN} >= {"README.md", "docs/quickstart.md", "docs/guide/soups.md"}


@pytest.mark.parametrize("page", sorted({block.page for block in RUN}))
def test_blocks_run_on_the_toy_run(page: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page):
        if block.runs and block.language == "yaml":
            first = block.text.splitlines()[0]
            Path(first.removeprefix("# ")).write_text(block.text, encoding="utf-8")
        elif block.runs and block.language == "python":
            exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})
        elif block.runs:
            for line in command_lines(block.text):
                found = find_command(words(line))
                assert found is not None, f"{block.place}: {line}: no command of ours"
                command, arguments = found
                code = command.function()(_expanded(arguments))
                assert code == 0, f"{block.place}: {line}: exit code {code}\n{capsys.readouterr().err}"


def _expanded(arguments: list[str]) -> list[str]:
    """File names as a shell makes them of patterns."""
    found = {word: sorted(map(str, Path().glob(word))) for word in arguments if "?" in word}
    return [name for word in arguments for name in found.get(word) or [word]]


@pytest.mark.parametrize("block", [block for block in CODE if block.language == "bash"], ids=lambda block: block.place)
def test_command_lines_parse(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for line in command_lines(block.text):
        given = words(line)
        found = find_command(given)
        if found is None:
            assert given[0] in NOT_OURS or given == ["soups", "--help"], f"{block.place}: {line}"
            assert all((ROOT / word).is_file() for word in given[1:2] if given[0] == "bash"), f"{block.place}: {line}"
            continue
        command, arguments = found
        _parse(command.settings(), arguments, f"{block.place}: {line}")


def _parse(settings: type, arguments: list[str], place: str) -> None:
    if "--config" in arguments:  # Settings files of the pages are examples.
        at = arguments.index("--config")
        arguments = arguments[:at] + arguments[at + 2 :]
    try:
        parse(settings, arguments, {})
    except SystemExit:
        pytest.fail(f"{place}: a flag or a value that the command does not take")


@pytest.mark.parametrize("document", [*PAGES, *SCRIPTS])
def test_commands_are_given_flags_that_they_have(document: str) -> None:
    text = text_of(document).replace("\\\n", " ")
    for line in re.findall(r"(?:python|soups|accelerate) [^\n#`→|]*", text):
        found = find_command(re.split(r"\s+", line.strip()))
        if found is not None:
            command, arguments = found
            given = {word.split("=")[0] for word in arguments if re.match(r"--[a-z]", word)}
            given = {re.match(r"--[a-z-]+", word).group() for word in given}  # type: ignore[union-attr]
            assert given <= set(flag_names(command.settings())), f"{document}: {line}"


def test_every_script_names_a_command() -> None:
    assert all(re.search(r"python [\w/]+\.py --", text_of(script)) for script in SCRIPTS)


def test_flags_in_the_text_exist() -> None:
    from tools.docs_site.commands import COMMANDS

    # Of other programs: accelerate, pip, the checks, git.
    known = {"--multi-gpu", "--use-fsdp", "--num-processes", "--cpu", "--all", "--strict", "--quick", "--mergekit"}
    known |= set().union(*(flag_names(command.settings()) for command in COMMANDS))
    for page in PAGES:
        for flag in re.findall(r"`(--[a-z][a-z_-]*)", text_of(page)):
            assert flag.replace("_", "-") in known, f"{page}: {flag}"
