"""Exceptions for mistakes that the user can correct: one message and one exit code each.

A message states where, what was expected, what was found and the next step. An exception that is not a `UserError` is
a bug of this package and keeps its traceback.
"""

import difflib
from collections.abc import Iterable
from functools import partial


class UserError(Exception):
    """A mistake that the user can correct; shown without a traceback unless `--debug` is given.

    Args:
        problem: where (a file, row, flag or tensor), then what is wrong.
        expected: the valid value or state; empty to omit the line.
        found: the value or state found; empty to omit the line.
        next_step: a command or action that corrects it; empty to omit the line.
    """

    exit_code = 2
    labels = ("expected:", "found:")
    """How the message names the two values."""

    def __init__(self, problem: str, *, expected: str = "", found: str = "", next_step: str = "") -> None:
        self.problem, self.expected, self.found, self.next_step = problem, expected, found, next_step
        super().__init__(problem, expected, found, next_step)

    def __str__(self) -> str:
        parts = ((self.labels[0], self.expected), (self.labels[1], self.found), ("next:", self.next_step))
        return "\n".join([self.problem, *(f"  {name:9} {text}" for name, text in parts if text)])

    def __reduce__(self) -> tuple[object, ...]:
        # The default pickling of exceptions drops keyword-only arguments.
        texts = {"expected": self.expected, "found": self.found, "next_step": self.next_step}
        return (partial(type(self), **texts), (self.problem,))


class UsageError(UserError):
    """A flag, a settings file or a combination of settings is invalid."""

    exit_code = 2


class RecordedOtherwise(UsageError):
    """A setting differs from the one that was recorded: `expected` is the recorded value, `found` the given one."""

    labels = ("recorded:", "given:")


class TrainingDiverged(UsageError):
    """The training loss exploded or became NaN or infinite; the search prunes such a trial."""


class DataError(UserError):
    """Images, labels, tables or checkpoints are missing, damaged or do not fit each other."""

    exit_code = 3


class EnvironmentFailure(UserError):
    """The disk, a permission, a device, the network or a missing package prevents the work."""

    exit_code = 4


class AlreadyInProgress(EnvironmentFailure):
    """Another process holds the lock of the same piece of work."""


class PartialFailure(UserError):
    """Some of several tasks failed; the results of the others are saved."""

    exit_code = 5


class UnknownName(UsageError):
    """A name is not in the registry; the message lists all known names and suggests the most similar one.

    Args:
        kind: what the name refers to, such as `recipe`.
        name: the unknown name.
        known: all valid names.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        super().__init__(
            f"unknown {kind} {name!r}",
            expected=f"one of {', '.join(self.known)}",
            next_step=did_you_mean(name, self.known),
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (UnknownName, (self.kind, self.name, self.known))


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is not in a registry; see `UnknownName`."""
    return UnknownName(kind, name, known)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a question that suggests the most similar known name; `otherwise` if none is similar.

    A known name is similar if `difflib` matches it, or if it contains the unknown name (`f1` for `macro_f1`).
    """
    names = {each.lower(): each for each in known}
    similar = difflib.get_close_matches(name.lower(), names, n=1) or [each for each in names if name.lower() in each]
    return f"did you mean {names[similar[0]]!r}?" if name and similar else otherwise


def as_typed(value: object) -> str:
    """Return a setting's value as it is given on the command line: a list with blanks between its items."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return an exception's message as one line of at most `limit` characters; its type's name if it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
