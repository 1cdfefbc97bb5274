"""What a user did wrong, as one message and one exit code.

Every message says where, what was expected, what was found and what to do next. Anything that is not a
`UserError` is a fault of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend; never shown with a traceback unless `--debug` is given.

    Args:
        problem: what is wrong, beginning with where (a file, row, flag or tensor).
        expected: what would have been right.
        found: what was there instead.
        next_step: what to do about it.
    """

    exit_code = 2

    def __init__(self, problem: str, *, expected: str = "", found: str = "", next_step: str = "") -> None:
        self.problem, self.expected, self.found, self.next_step = problem, expected, found, next_step
        super().__init__(problem, expected, found, next_step)

    def __str__(self) -> str:
        lines = [self.problem]
        lines += [f"  expected: {self.expected}"] if self.expected else []
        lines += [f"  found:    {self.found}"] if self.found else []
        lines += [f"  next:     {self.next_step}"] if self.next_step else []
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive pickling between processes by themselves.
        return (_rebuild, (type(self), self.problem, self.expected, self.found, self.next_step))


def _rebuild(kind: type[UserError], problem: str, expected: str, found: str, next_step: str) -> UserError:
    return kind(problem, expected=expected, found=found, next_step=next_step)


class UsageError(UserError):
    """A flag, a settings file or a combination of settings that makes no sense."""

    exit_code = 2


class TrainingDiverged(UsageError):
    """A loss that is no number any more: these hyperparameters lead nowhere."""


class DataError(UserError):
    """Images, labels, tables or checkpoints that are not what they should be."""

    exit_code = 3


class EnvironmentFailure(UserError):
    """Disk, permission, device, network or a missing package."""

    exit_code = 4


class AlreadyInProgress(EnvironmentFailure):
    """Another process is at the same piece of work."""


class PartialFailure(UserError):
    """Some of several pieces of work failed; the others are kept."""

    exit_code = 5


class UnknownName(UsageError):
    """A name that no registry has: lists the known ones, and the nearest first.

    Args:
        kind: what it should name.
        name: as it was given.
        known: all that would have been right.
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
    """The error for a name that no registry has."""
    return UnknownName(kind, name, known)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The question that names the nearest of the known names; `otherwise` where none is near.

    Near are names that look alike, or that have the one that was given in them (`f1` for `macro_f1`).
    """
    names = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), names, n=1) or [each for each in names if name.lower() in each]
    return f"did you mean {names[near[0]]!r}?" if name and near else otherwise


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return an exception's message as one line of at most `limit` characters; its type's name if it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
