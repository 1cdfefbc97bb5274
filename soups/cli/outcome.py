"""Runs a command: settings from the command line, exceptions to messages and exit codes, notices to stderr."""

import gc
import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel

from soups.cli.flags import ParsedSettings, parse
from soups.cli.help import format_help
from soups.cli.streams import printable_streams
from soups.core.errors import UserError
from soups.core.notes import collect_notes
from soups.core.plugins import load_plugins
from soups.core.printable import TABLE_WIDTH, escape_controls
from soups.core.signals import raise_interruption
from soups.files.atomic import explain_write_errors

Settings = TypeVar("Settings", bound=BaseModel)

logger = logging.getLogger("soups")

_COLLECTION_THRESHOLD = 500_000
"""New objects between two garbage collections; Python's default of 700 costs a second while torch is imported."""


@printable_streams()
def run(
    settings_class: type[Settings],
    command: Callable[[ParsedSettings[Settings]], None],
    argv: Sequence[str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    prog: str | None = None,
    examples: Sequence[str] = (),
) -> int:
    """Parse the command line, call the command, and return the exit code.

    Args:
        settings_class: a frozen pydantic class; fields that are such classes become groups of flags without a prefix.
            Its docstring is the description in `--help`.
        command: the function of the command.
        argv: arguments without the program's name; those of the process by default.
        environment: environment variable → name of the setting that it gives.
        prog: the command as `--help` shows it; the script's file name by default.
        examples: arguments of example commands for `--help`.

    Returns:
        0 done, 2 usage, 3 data or checkpoint, 4 environment, 5 some of several failed, 130 interrupted, 143 terminated.

    Raises:
        UserError: with `--debug`, instead of its message.
        Exception: any error of ours, with its traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    width = None if "--wide" in arguments or not sys.stdout.isatty() else shutil.get_terminal_size().columns
    TABLE_WIDTH.set(width)
    arguments = [argument for argument in arguments if argument not in ("--debug", "--wide")]
    set_up_logging(debug)
    _replace_missing_backend()
    if argv is None:
        gc.set_threshold(_COLLECTION_THRESHOLD)
    config = None
    try:
        if {"-h", "--help"} & set(arguments):
            print(format_help(settings_class, prog, examples, environment or {}))
            return 0
        with raise_interruption(), explain_write_errors(), collect_notes():  # Each note is logged once.
            load_plugins()
            parsed = parse(settings_class, arguments, environment or {}, prog)
            config = parsed.config
            command(parsed)
    except UserError as error:
        if debug:
            raise
        place = config.locate_unknown_name(error) if config is not None else None
        text = f"error: {place}: {error}" if place else f"error: {error}"
        print(escape_controls(text), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; finished work is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # The reader of our output (such as `head`) has gone; that is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    return 0


def _replace_missing_backend() -> None:
    """Let matplotlib draw to files where a notebook's `MPLBACKEND` names a module that is not installed here."""
    prefix, _, module = os.environ.get("MPLBACKEND", "").partition("module://")
    if not prefix and module and importlib.util.find_spec(module.partition(".")[0]) is None:
        os.environ["MPLBACKEND"] = "agg"


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return escape_controls(super().format(record))


class _CurrentStderr:
    """The stream that is `sys.stderr` when a line is written: that of a progress bar, while it is shown."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def set_up_logging(debug: bool = False) -> None:
    """Send the package's notices to stderr as plain lines."""
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    handler = logging.StreamHandler(_CurrentStderr())
    handler.setFormatter(_PrintableFormatter("%(message)s"))
    logger.handlers = [handler]
