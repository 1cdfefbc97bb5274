"""Messages, exit codes and pickling of errors, and suggested names."""

import pickle

import pytest

from soups.core.errors import (
    DataError,
    EnvironmentFailure,
    PartialFailure,
    UsageError,
    UserError,
    did_you_mean,
    one_line,
    unknown_name,
)


@pytest.mark.parametrize(
    ("kind", "code"), [(UsageError, 2), (DataError, 3), (EnvironmentFailure, 4), (PartialFailure, 5)]
)
def test_exit_codes(kind: type[UserError], code: int) -> None:
    assert kind("x").exit_code == code


def test_message_says_where_expected_found_next() -> None:
    error = DataError("a.csv, line 3: no label", expected="a class name", found="''", next_step="fill it in")
    assert str(error).splitlines() == [
        "a.csv, line 3: no label",
        "  expected: a class name",
        "  found:    ''",
        "  next:     fill it in",
    ]


def test_errors_can_be_pickled() -> None:
    error = DataError("where", expected="this", found="that", next_step="do so")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (DataError, str(error))


def test_unknown_name_lists_known_names_and_suggests_one() -> None:
    error = unknown_name("recipe", "gredy", ["uniform", "greedy"])
    assert "unknown recipe 'gredy'" in str(error)
    assert "uniform, greedy" in str(error)
    assert "did you mean 'greedy'?" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.name) == (type(error), str(error), "gredy")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("gredy", "greedy"),
        ("GREEDY", "greedy"),
        ("f1", "macro_f1"),
        ("bce", "BCELoss"),
        ("quite another", ""),
        ("", ""),
    ],
)
def test_suggested_names_are_similar_or_contain_the_name(name: str, nearest: str) -> None:
    suggestion = did_you_mean(name, ["uniform", "greedy", "macro_f1", "BCELoss"], otherwise="see --help")
    assert suggestion == (f"did you mean {nearest!r}?" if nearest else "see --help")


def test_a_message_of_several_lines_becomes_one() -> None:
    assert one_line(ValueError("first\n   second\tthird ")) == "first second third"
    assert one_line(ValueError("abcdef"), 3) == "abc"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
