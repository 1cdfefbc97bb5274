"""Settings from flags, files, the environment and defaults, and the messages for invalid ones."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from soups.cli import flags as cli
from soups.cli import outcome
from soups.core.errors import unknown_name


class Group(BaseModel):
    """A group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: float = Field(default=0.1, gt=0)
    """A rate."""
    strict: cli.Flag = False
    """A switch."""
    ratio: float | None = 0.2
    """May be None."""

    way: Literal["soft", "hard"] = "soft"
    """One of two."""

    @model_validator(mode="after")
    def _one_of_them(self) -> "Group":
        if self.strict and self.ratio is None:
            raise ValueError("strict needs a ratio: give it, or leave strict out")
        return self


class Settings(BaseModel):
    """What this does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Group = Group()
    name: str | None = None
    """A name."""
    voters: tuple[str, ...] | None = None
    """Bare or with names."""
    bounds: tuple[float, float] = (0, 1)
    """Two numbers."""


class Dashed(BaseModel):
    """A name of two words."""

    top_k: int = 1


def parsed(*arguments: str, environment: dict[str, str] | None = None) -> cli.ParsedSettings[Settings]:
    return cli.parse(Settings, arguments, environment or {})


def test_defaults_when_nothing_is_given() -> None:
    given = parsed()
    assert given.settings == Settings()
    assert given.names == frozenset()


def test_given_settings_are_distinguished_from_defaults() -> None:
    assert parsed("--lr", "1e-3").settings.group.lr == 1e-3
    assert parsed("--lr", "0.1").names == {"lr"}


def test_dashes_and_underscores() -> None:
    for flag in ("--top-k", "--top_k"):
        assert cli.parse(Dashed, [flag, "3"], {}).settings.top_k == 3
        assert cli.parse(Dashed, [flag, "3"], {}).names == {"top_k"}


@pytest.mark.parametrize(
    ("words", "value"),
    [((), False), (("--strict",), True), (("--strict", "True"), True), (("--strict", "False"), False)],
)
def test_a_switch_works_bare_and_with_a_value(words: tuple[str, ...], value: bool) -> None:
    assert parsed(*words).settings.group.strict is value


def test_a_list_may_be_bare() -> None:
    assert parsed().settings.voters is None
    assert parsed("--voters").settings.voters == ()
    assert parsed("--voters", "a", "b").settings.voters == ("a", "b")


def test_flags_win_over_file_over_environment_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SM_NAME", "environment")
    environment = {"SM_NAME": "name"}
    config = tmp_path / "c.yaml"
    assert parsed(environment=environment).settings.name == "environment"
    config.write_text("name: file\n")
    assert parsed("--config", str(config), environment=environment).settings.name == "file"
    given = parsed("--config", str(config), "--name", "flag", environment=environment)
    assert given.settings.name == "flag"
    assert given.names == {"name"}


def test_scalars_of_yaml_are_converted_by_the_settings(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("lr: 1e-5\nname: no\nratio: 2\nvoters: [007, on]\nstrict: yes\nbounds: [1e-3, 1]\n")
    settings = parsed("--config", str(config)).settings
    group = Group(lr=1e-5, ratio=2, strict=True)
    assert settings == Settings(name="no", voters=("007", "on"), group=group, bounds=(1e-3, 1))
    config.write_text("strict: off\nratio:\nname: 1e-5\nvoters: []\n")
    assert parsed("--config", str(config)).settings == Settings(name="1e-5", voters=(), group=Group(ratio=None))


def test_one_value_of_a_list_needs_no_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("voters: a.csv\n")
    assert parsed("--config", str(config)).settings.voters == ("a.csv",)
    monkeypatch.setenv("SM_VOTERS", "b.csv")
    assert parsed(environment={"SM_VOTERS": "voters"}).settings.voters == ("b.csv",)


def test_an_unknown_key_names_file_line_and_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("# first\nstrikt: true\n")
    assert outcome.run(Settings, lambda given: None, ["--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert "c.yaml, line 2: unknown setting 'strikt'" in error
    assert "did you mean 'strict'?" in error


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name: a\nlr: fast\n", "c.yaml, line 2: lr\n  expected: a number"),
        ("\n# none\nlr: -1\n", "c.yaml, line 3: lr\n  expected: a number greater than 0\n  found:    '-1'"),
        ("strict: maybe\n", "c.yaml, line 1: strict\n  expected: True or False"),
        ("name: [a]\n", "c.yaml, line 1: name\n  expected: text\n  found:    ['a']"),
        ("bounds: 1\n", "c.yaml, line 1: bounds\n  expected: a list of values"),
        ("bounds: [1, b]\n", "c.yaml, line 1: bounds"),
        (
            "way: hart\n",
            "line 1: way\n  expected: soft or hard\n  found:    'hart'\n  next:     did",
        ),
        ("lr: 1\nstrict: on\nratio: null\n", "c.yaml: strict needs a ratio: give it, or leave strict out"),
        ("lr: 1\ntop_k: 1\n", "c.yaml, line 2: unknown setting 'top_k'\n  next:     see --help"),
        ("- lr\n", "not a mapping of settings to values"),
        ("lr: [\n", "not readable YAML"),
    ],
)
def test_an_invalid_file_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(content)
    assert outcome.run(Settings, lambda given: None, ["--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lrr", "1"], "--lr"),
        (["--lr", "-1"], "greater than 0"),
        (["--lr", "fast"], "error: --lr\n  expected: a number\n  found:    fast\n"),
        (["--lr"], "--lr: no value"),
        (["--lr", "1", "2"], "--lr: several values"),
        (["--way", "hart"], "--way\n  expected: soft or hard\n  found:    hart\n  next:     did you mean 'hard'?"),
        (
            ["--learning-rate", "1"],
            "unknown flag --learning-rate\n  next:     the flag is called --lr; --help",
        ),
        (["words"], "the command line is not understood: words"),
        (["--strict", "maybe"], "True or False"),
        (["--config"], "--config FILE.yaml"),
        (["--config", "nowhere.yaml"], "no such file"),
    ],
)
def test_wrong_flags_exit_with_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome.run(Settings, lambda given: None, arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.out + captured.err


def test_an_unknown_flag_names_the_help_as_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome.run(Settings, lambda given: None, ["--lrr", "1"], prog="soups do") == 2
    captured = capsys.readouterr()
    assert "unknown flag --lrr" in captured.err + captured.out
    assert "--help lists all flags" in captured.err


def test_a_section_overrides_the_top_level_of_its_file(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("lr: 0.5\nstrict: true\nage:\n  lr: 1e-5\n  name: no\nrest:\n  name: b\n")
    given = parsed("--config", f"{config}#age", "--name", "flag")
    assert given.settings.group == Group(lr=1e-5, strict=True) and given.settings.name == "flag"
    assert given.names == {"lr", "strict", "name"}
    assert parsed(f"--config={config}#rest").settings == Settings(group=Group(lr=0.5, strict=True), name="b")
    odd = tmp_path / "a#b.yaml"
    odd.write_text("lr: 0.25\n")
    assert parsed("--config", str(odd)).settings.group.lr == 0.25


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("", "line 2: unknown setting 'age'\n  next:     to read this section, use --config"),
        ("#ages", "no section 'ages'"),
        ("#age", "line 3: unknown setting 'lrr'\n  next:     did you mean 'lr'?"),
    ],
)
def test_invalid_sections_are_rejected(
    tmp_path: Path, section: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("lr: 0.5\nage:\n  lrr: 1e-5\n")
    assert outcome.run(Settings, lambda given: None, ["--config", f"{config}{section}"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "flags", "place"),
    [
        ("lr: 1\nname: adamv\n", (), "c.yaml, line 2: "),
        ("voters:\n- a\n- adamv\n", (), "c.yaml, line 1: "),
        ("name: adamv\nvoters: [adamv]\n", (), ""),  # It may be either.
        ("name: adam\n", (), ""),
        ("name: adamv\n", ("--name", "adamv"), ""),  # The flag said it.
    ],
)
def test_an_unknown_name_is_reported_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, flags: tuple[str, ...], place: str
) -> None:
    (tmp_path / "c.yaml").write_text(content)
    error = unknown_name("optimizer", "adamv", ["adamw", "sgd"])
    arguments = ["--config", str(tmp_path / "c.yaml"), *flags]
    assert outcome.run(Settings, lambda given: _raise(error), arguments) == 2
    first, *_, last = capsys.readouterr().err.splitlines()
    assert (
        first == f"error: {tmp_path}/{place}unknown optimizer 'adamv'" if place else "error: unknown optimizer 'adamv'"
    )
    assert last == "  next:     did you mean 'adamw'?"


def test_an_invalid_value_from_the_environment_has_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text("name: a\n")
    monkeypatch.setenv("SM_LR", "fast")
    arguments = ["--config", str(tmp_path / "c.yaml")]
    assert outcome.run(Settings, lambda given: None, arguments, environment={"SM_LR": "lr"}) == 2
    assert capsys.readouterr().err.startswith("error: setting lr from the environment\n  expected: ")


def _raise(error: BaseException) -> None:
    raise error
