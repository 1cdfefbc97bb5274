"""Comparison of values field by field: JSON values, table cells, sentences. Knows no files.

A number or an identifier must be equal; a sentence (words with spaces) may change as long as its numbers do not.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

IGNORED_FIELDS = {
    "images_per_second": "speed",
    "images/s": "speed",
    "seconds": "duration",
    "seconds_per_epoch": "duration",
    "s/epoch": "duration",
    "peak_memory": "memory, as measured",
    "peak MiB": "memory, as measured",
    "machine": "host",
    "versions": "versions of packages",
    "worker_id": "host and time, in Optuna's journal",
    "place": "host and process, in Optuna's journal",
    "datetime_start": "date, in Optuna's journal",
    "datetime_complete": "date, in Optuna's journal",
    "stack_trace": "lines of source, in torch.export's graph",
    "nn_module_stack": "names of Python modules, in torch.export's graph",
    "source_fn_stack": "names of Python modules, in torch.export's graph",
}
"""Keys of JSON and YAML and headers of tables whose values are not compared, and why."""

IGNORED_FILES = {
    ".locks/place": "random name of a search's place of work",
    "serialization_id": "random, in PyTorch's archives",
}
"""Ends of names of files and archive members whose contents are not compared, and why."""

HASH_OF = "<hash of "
"""How a replaced hash of a checkpoint begins; the checkpoint's name follows."""

_DURATION = re.compile(r"\d[\d,.]*\s*(?:images/s|ms|s|seconds?|minutes?|MB|MiB|GiB)\b")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
_LENGTH = 160

Kind = Literal["difference", "sentence", "picture"]
Rewrite = Callable[[str], str]


@dataclass(frozen=True)
class Finding:
    """One place where two versions differ; only the kind `difference` makes the comparison fail."""

    kind: Kind
    file: str
    place: str
    before: str
    after: str


def differences(before: Any, after: Any, file: str, place: str, rewrites: tuple[Rewrite, Rewrite]) -> Iterator[Finding]:
    """Compare two values as `json.loads` gives them: keys, lengths, numbers and identifiers exactly.

    Args:
        before: value of the older version.
        after: value of the newer version.
        file: name of the file, for the findings.
        place: where in the file, for the findings.
        rewrites: for each side, replaces what may differ in any string (paths, hashes of models).
    """
    if isinstance(before, dict) and isinstance(after, dict):
        old = {rewrites[0](str(key)): value for key, value in before.items()}
        new = {rewrites[1](str(key)): value for key, value in after.items()}
        if old.keys() != new.keys():
            yield Finding("difference", file, f"{place}: keys", shown(sorted(old)), shown(sorted(new)))
        for key in sorted((old.keys() & new.keys()) - IGNORED_FIELDS.keys()):
            yield from differences(old[key], new[key], file, f"{place}.{key}", rewrites)
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield Finding("difference", file, f"{place}: length", str(len(before)), str(len(after)))
        lists = _in_order_of_names(before, rewrites[0]), _in_order_of_names(after, rewrites[1])
        for index, (old_item, new_item) in enumerate(zip(*lists, strict=False)):
            yield from differences(old_item, new_item, file, f"{place}[{index}]", rewrites)
    elif isinstance(before, str) and isinstance(after, str):
        nested = _as_json(before), _as_json(after)
        if nested[0] is not None and nested[1] is not None:
            yield from differences(*nested, file, place, rewrites)
        else:
            yield from text_differences(rewrites[0](before), rewrites[1](after), file, place)
    elif not _same_scalar(before, after):
        yield Finding("difference", file, place, shown(before), shown(after))


def text_differences(before: str, after: str, file: str, place: str) -> Iterator[Finding]:
    """Compare two texts, already rewritten: equal, a changed sentence with the same numbers, or a difference."""
    if before == after:
        return
    same_numbers = numbers_of(before) == numbers_of(after)
    sentences = same_numbers and is_sentence(before) and is_sentence(after)
    yield Finding("sentence" if sentences else "difference", file, place, shown(before), shown(after))


def table_differences(
    before: Sequence[Sequence[str]], after: Sequence[Sequence[str]], file: str, place: str
) -> Iterator[Finding]:
    """Compare two tables whose first row is the header; columns of `IGNORED_FIELDS` are left out."""
    if not before or not after:
        if before or after:
            yield Finding("difference", file, f"{place}: rows", str(len(before)), str(len(after)))
        return
    header = list(before[0])
    if header != list(after[0]):
        yield Finding("difference", file, f"{place}: header", shown(header), shown(list(after[0])))
        return
    if len(before) != len(after):
        yield Finding("difference", file, f"{place}: rows", str(len(before)), str(len(after)))
    for row, (old, new) in enumerate(zip(before[1:], after[1:], strict=False), 1):
        if len(old) != len(new):
            yield Finding("difference", file, f"{place} row {row}: cells", str(len(old)), str(len(new)))
        for column, (old_cell, new_cell) in enumerate(zip(old, new, strict=False)):
            name = header[column] if column < len(header) else f"column {column}"
            if name not in IGNORED_FIELDS:
                yield from text_differences(old_cell, new_cell, file, f"{place} row {row}, {name or 'first column'}")


def line_differences(before: Sequence[str], after: Sequence[str], file: str) -> Iterator[Finding]:
    """Compare lines of prose: by pairs, or as one text where their number differs."""
    if len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True), 1):
            yield from text_differences(without_durations(old), without_durations(new), file, f"text line {number}")
    else:
        old_text, new_text = (without_durations("\n".join(lines)) for lines in (before, after))
        yield from text_differences(f"{old_text} ", f"{new_text} ", file, f"text, {len(before)} and {len(after)} lines")


def is_sentence(text: str) -> bool:
    """Whether a text is prose: nothing, or words with a space between them; a name or a number is not."""
    return not text.strip() or " " in text


def numbers_of(text: str) -> list[str]:
    """All numbers in a text, sorted, without their signs: a minus and a hyphen look the same."""
    return sorted(_NUMBER.findall(text))


def without_durations(text: str) -> str:
    """The text with durations, speeds and memory sizes replaced, such as `12.3 s` and `1,204 images/s`."""
    return _DURATION.sub("<measured>", text)


def shown(value: Any) -> str:
    """A value in one line of at most 160 characters."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 1]}…"


def _in_order_of_names(items: list[Any], rewrite: Rewrite) -> list[Any]:
    """Sort a list that holds nothing but hashes of checkpoints by the checkpoints' names: its order is the hashes'."""
    if all(isinstance(item, str) and rewrite(item).startswith(HASH_OF) for item in items):
        return sorted(items, key=rewrite)
    return items


def _as_json(text: str) -> Any:
    """The JSON object or list that a string holds (a checkpoint's card), or None."""
    if not text.startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _same_scalar(before: Any, after: Any) -> bool:
    if type(before) is not type(after):
        return False
    if isinstance(before, float) and math.isnan(before):
        return math.isnan(after)
    return bool(before == after)
