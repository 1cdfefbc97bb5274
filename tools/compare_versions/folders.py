"""Comparison of two folders of results, file by file. Reads the formats directly, without the `soups` package."""

import csv
import hashlib
import html
import io
import itertools
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tools.compare_versions.fields import (
    HASH_OF,
    IGNORED_FILES,
    Finding,
    Rewrite,
    differences,
    line_differences,
    shown,
    table_differences,
    text_differences,
)

Rewrites = tuple[Rewrite, Rewrite]
Comparer = Callable[[Path, Path, str, Rewrites], Iterator[Finding]]

_HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{16,64}(?![0-9a-f])")
_IDENTIFIER = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_EMBEDDED = re.compile(r"data:image/[^\"')]+")
_RULE = re.compile(r"─+(?: +─+)*")
_INDEX_PREFIX = re.compile(r"(?<=\d)_i(?=\d)")
"""In names of models of runs whose name ends in a digit, since version 0.2."""
_SHORT_HASH = 16


@dataclass
class Row:
    """A row of the result: what was compared, and how many files were equal."""

    what: str
    files: int = 0
    equal: int = 0
    sentences: int = 0
    differing: int = 0


@dataclass
class Comparison:
    """Rows of the result, by name, and everything that was found."""

    rows: dict[str, Row] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing differs but sentences and pictures."""
        return not any(finding.kind == "difference" for finding in self.findings)

    def fail(self, file: str, problem: str) -> None:
        """Add a difference that is in no file."""
        self.findings.append(Finding("difference", file, "exit code", "0", shown(problem)))

    def add(self, what: str, findings: list[Finding]) -> None:
        """Count one compared file and keep what was found in it."""
        row = self.rows.setdefault(what, Row(what))
        row.files += 1
        row.equal += not findings
        differing = any(finding.kind == "difference" for finding in findings)
        row.differing += differing
        row.sentences += bool(findings) and not differing
        self.findings.extend(findings)


def compare_folders(
    before: Path,
    after: Path,
    result: Comparison,
    *,
    title: str = "",
    paths: Mapping[str, str] | None = None,
    hashes: tuple[Path, Path] | None = None,
) -> None:
    """Compare all files of two folders and add rows and findings to the result.

    Args:
        before: folder of the older version.
        after: folder of the newer version.
        result: receives one row for each kind of file.
        title: precedes the names of rows and files.
        paths: text → replacement, in file names and strings of both sides: folders that each side has for itself.
        hashes: folders of the checkpoints whose hashes are replaced by names; by default the two folders.
    """
    folders = hashes or (before, after)
    rewrites = (rewrite_for(folders[0], paths or {}), rewrite_for(folders[1], paths or {}))
    old, new = (_files_of(folder, rewrite) for folder, rewrite in zip((before, after), rewrites, strict=True))
    result.rows.setdefault(f"{title}file names", Row(f"{title}file names"))
    for name in sorted(old.keys() | new.keys()):
        ends = ("there" if name in old else "missing", "there" if name in new else "missing")
        missing = [Finding("difference", f"{title}{name}", "file", *ends)] if "missing" in ends else []
        result.add(f"{title}file names", missing)
        if not missing and not name.endswith(tuple(IGNORED_FILES)):
            what, compare = _comparer_of(name)
            result.add(f"{title}{what}", list(compare(old[name], new[name], f"{title}{name}", rewrites)))


def compare_models_strictly(before: Path, after: Path, result: Comparison, *, title: str = "") -> None:
    """Compare all checkpoints of two folders byte for byte, cards included, and add a row to the result."""
    for path in sorted(before.rglob("*.safetensors")):
        name = path.relative_to(before)
        result.add(f"{title}models, every byte", list(_compare_bytes(path, after / name, f"{title}{name}", _AS_IT_IS)))


def rewrite_for(folder: Path, paths: Mapping[str, str]) -> Rewrite:
    """A function that replaces folders, and hashes of the folder's checkpoints by the checkpoint's name.

    A card's sentence that became plainer changes the file's hash and so the names of cached logits; what the
    checkpoint itself holds is compared on its own.
    """
    hashes: dict[str, str] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:_SHORT_HASH]
        hashes.setdefault(digest, f"{HASH_OF}{path.stem}>")

    def rewrite(text: str) -> str:
        for old, new in paths.items():
            text = text.replace(old, new)
        text = _HEX.sub(lambda match: hashes.get(match[0][:_SHORT_HASH], match[0]), text)
        return _INDEX_PREFIX.sub("", text)

    return rewrite


def _files_of(folder: Path, rewrite: Rewrite) -> dict[str, Path]:
    """Rewritten relative name → file."""
    return {rewrite(path.relative_to(folder).as_posix()): path for path in folder.rglob("*") if path.is_file()}


def _comparer_of(name: str) -> tuple[str, Comparer]:
    """The row that a file counts in, and how it is compared."""
    return _COMPARERS.get(Path(name).suffix, ("other files", _compare_bytes))


def _compare_bytes(before: Path, after: Path, name: str, _: Rewrites) -> Iterator[Finding]:
    old, new = (path.read_bytes() if path.is_file() else b"" for path in (before, after))
    if old != new:
        size = min(len(old), len(new))
        at = next((index for index in range(size) if old[index] != new[index]), size)
        ends = (f"{data[at : at + 8].hex(' ') or 'the end'} ({len(data)} bytes)" for data in (old, new))
        yield Finding("difference", name, f"byte {at}", *ends)


def _compare_models(before: Path, after: Path, name: str, rewrites: Rewrites) -> Iterator[Finding]:
    """Tensors byte for byte, with their names, types, shapes and places; the card field by field."""
    old, new = before.read_bytes(), after.read_bytes()
    if old == new:
        return
    try:
        parts = [_parts_of(data) for data in (old, new)]
    except (ValueError, struct.error):
        yield from _compare_bytes(before, after, name, rewrites)
        return
    (old_header, old_data), (new_header, new_data) = parts
    cards = [header.pop("__metadata__", {}) for header in (old_header, new_header)]
    yield from differences(cards[0], cards[1], name, "card", rewrites)
    for key in sorted(old_header.keys() | new_header.keys()):
        entries = [header.get(key) for header in (old_header, new_header)]
        if entries[0] is None or entries[1] is None or entries[0] != entries[1]:
            yield Finding("difference", name, f"tensor {key}", shown(entries[0]), shown(entries[1]))
            continue
        first, last = entries[0]["data_offsets"]
        if old_data[first:last] != new_data[first:last]:
            digests = (hashlib.sha256(data[first:last]).hexdigest()[:12] for data in (old_data, new_data))
            yield Finding("difference", name, f"bytes of tensor {key}", *(f"SHA-256 {digest}…" for digest in digests))
    if len(old_data) != len(new_data):
        yield Finding("difference", name, "bytes of tensors", str(len(old_data)), str(len(new_data)))


def _parts_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and the bytes behind it."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _compare_json_lines(before: Path, after: Path, name: str, rewrites: Rewrites) -> Iterator[Finding]:
    old, new = (path.read_text(encoding="utf-8").split("\n") for path in (before, after))
    if len(old) != len(new):
        yield Finding("difference", name, "lines", str(len(old) - 1), str(len(new) - 1))
    for number, lines in enumerate(zip(old, new, strict=False), 1):
        values = [_parsed(line) for line in lines]
        if None not in values:
            yield from differences(values[0], values[1], name, f"line {number}", rewrites)
        elif lines[0] != lines[1]:
            torn = (line if value else f"no JSON: {line!r}" for line, value in zip(lines, values, strict=True))
            yield Finding("difference", name, f"line {number}", *map(shown, torn))


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _compare_settings(before: Path, after: Path, name: str, rewrites: Rewrites) -> Iterator[Finding]:
    """YAML, of which JSON is a part."""
    old, new = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (before, after))
    if isinstance(old, dict) and isinstance(new, dict):  # Version 0.1 recorded no settings of fine-tunes.
        models = {key for key, value in new.items() if isinstance(value, dict) and "hparams" in value}
        new = {key: value for key, value in new.items() if key in old or key not in models}
    yield from differences(old, new, name, "", rewrites)


def _compare_csv(before: Path, after: Path, name: str, rewrites: Rewrites) -> Iterator[Finding]:
    texts = (rewrite(path.read_text(encoding="utf-8")) for path, rewrite in zip((before, after), rewrites, strict=True))
    old, new = (list(csv.reader(io.StringIO(text))) for text in texts)
    yield from table_differences(old, new, name, "table")


def _compare_text(before: Path, after: Path, name: str, rewrites: Rewrites) -> Iterator[Finding]:
    """Markdown and what was printed: tables cell by cell, other lines as prose."""
    texts = [rewrite(path.read_text(encoding="utf-8")) for path, rewrite in zip((before, after), rewrites, strict=True)]
    (old_tables, old_lines), (new_tables, new_lines) = (read_tables(text) for text in texts)
    if len(old_tables) != len(new_tables):
        yield Finding("difference", name, "tables", str(len(old_tables)), str(len(new_tables)))
    for number, (old, new) in enumerate(zip(old_tables, new_tables, strict=False), 1):
        yield from table_differences(old, new, name, f"table {number}")
    yield from line_differences(old_lines, new_lines, name)


def read_tables(text: str) -> tuple[list[list[list[str]]], list[str]]:
    """Tables in a text, Markdown or aligned under a rule of `─`, as rows of cells; and its other lines."""
    tables: list[list[list[str]]] = []
    others: list[str] = []
    lines = text.splitlines()
    index = 0
    while index < len(lines):
        line = lines[index]
        rule = lines[index + 1].strip() if index + 1 < len(lines) else ""
        if line.startswith("|"):
            rows = []
            while index < len(lines) and lines[index].startswith("|"):
                cells = [cell.strip() for cell in lines[index].strip().strip("|").split("|")]
                if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                    rows.append(cells)
                index += 1
            tables.append(rows)
        elif rule and _RULE.fullmatch(rule):
            spans = [match.span() for match in re.finditer("─+", lines[index + 1])]
            rows = [_cells_of(line, spans)]
            index += 2
            while index < len(lines) and _fits(lines[index], spans):
                rows.append(_cells_of(lines[index], spans))
                index += 1
            tables.append(rows)
        else:
            if line.strip():
                others.append(line)
            index += 1
    return tables, others


def _cells_of(line: str, spans: list[tuple[int, int]]) -> list[str]:
    return [line[first:last].strip() for first, last in spans]


def _fits(line: str, spans: list[tuple[int, int]]) -> bool:
    """Whether a line is a row under the rule: filled, and blank between the columns and behind the last one."""
    gaps = [(end, following) for (_, end), (following, _) in itertools.pairwise(spans)]
    gaps.append((spans[-1][1], len(line)))
    return bool(line.strip()) and len(spans) > 1 and not any(line[first:last].strip() for first, last in gaps)


def _compare_pages(before: Path, after: Path, name: str, rewrites: Rewrites) -> Iterator[Finding]:
    """HTML: text as prose with equal numbers; embedded pictures and scripts apart."""
    texts = [
        _IDENTIFIER.sub("<identifier>", rewrite(path.read_text(encoding="utf-8")))
        for path, rewrite in zip((before, after), rewrites, strict=True)
    ]
    if texts[0] == texts[1]:
        return
    embedded = [_EMBEDDED.findall(text) for text in texts]
    if len(embedded[0]) != len(embedded[1]):
        yield Finding("difference", name, "embedded pictures", str(len(embedded[0])), str(len(embedded[1])))
    elif embedded[0] != embedded[1]:
        count = sum(old != new for old, new in zip(*embedded, strict=True))
        yield Finding("picture", name, "embedded pictures", f"{count} of {len(embedded[0])}", "are drawn otherwise")
    scripts = [re.findall(r"(?s)<script.*?</script>", text) for text in texts]
    for number, (old, new) in enumerate(zip(*scripts, strict=False), 1):
        yield from text_differences(old, new, name, f"script {number}")
    yield from line_differences(_visible_lines(texts[0]), _visible_lines(texts[1]), name)


def _visible_lines(page: str) -> list[str]:
    text = re.sub(r"(?s)<(script|style).*?</\1>", "", _EMBEDDED.sub("", page))
    lines = html.unescape(re.sub(r"<[^>]*>", "\n", text)).split("\n")
    return [line.strip() for line in lines if line.strip()]


def _compare_pictures(before: Path, after: Path, name: str, _: Rewrites) -> Iterator[Finding]:
    """Pictures by their pixels. They hold words, so that they are listed and are no failure."""
    import numpy as np
    from PIL import Image

    if before.read_bytes() == after.read_bytes():
        return
    old, new = (np.asarray(Image.open(path).convert("RGBA")) for path in (before, after))
    if old.shape != new.shape:
        ends = (f"{image.shape[1]} × {image.shape[0]} pixels" for image in (old, new))
        yield Finding("picture", name, "size", *ends)
    elif (old != new).any():
        share = 100 * (old != new).any(axis=-1).mean()
        yield Finding("picture", name, "pixels", f"{share:.2g}% of the pixels", "are drawn otherwise")


def _compare_archives(before: Path, after: Path, name: str, rewrites: Rewrites) -> Iterator[Finding]:
    """Zip archives, such as torch.export's, by their members: times are not compared."""
    contents = []
    for path in (before, after):
        with zipfile.ZipFile(path) as archive:
            contents.append({member: archive.read(member) for member in archive.namelist()})
    old, new = contents
    if old.keys() != new.keys():
        yield Finding("difference", name, "members", shown(sorted(old)), shown(sorted(new)))
    for member in sorted(old.keys() & new.keys()):
        if old[member] == new[member] or member.endswith(tuple(IGNORED_FILES)):
            continue
        values = [_parsed_bytes(data[member]) for data in (old, new)]
        if None not in values:
            yield from differences(values[0], values[1], name, member, rewrites)
        else:
            digests = (hashlib.sha256(data[member]).hexdigest()[:12] for data in (old, new))
            yield Finding("difference", name, f"bytes of {member}", *(f"SHA-256 {digest}…" for digest in digests))


def _parsed_bytes(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _unchanged(text: str) -> str:
    return text


_AS_IT_IS = (_unchanged, _unchanged)
_COMPARERS: dict[str, tuple[str, Comparer]] = {
    ".safetensors": ("models (tensors by bytes, cards by fields)", _compare_models),
    ".npy": ("arrays (bytes)", _compare_bytes),
    ".jsonl": ("logs", _compare_json_lines),
    ".journal": ("logs", _compare_json_lines),
    ".yaml": ("settings", _compare_settings),
    ".json": ("settings", _compare_settings),
    ".csv": ("CSV tables", _compare_csv),
    ".md": ("Markdown tables", _compare_text),
    ".html": ("pages", _compare_pages),
    ".png": ("pictures", _compare_pictures),
    ".pt2": ("exported models (members by bytes)", _compare_archives),
    ".stdout": ("printed tables and lines", _compare_text),
    ".code": ("exit codes", _compare_bytes),
}
