"""Fast reading of a CSV of two columns whose ids are known: without a Python object for each cell.

What is not plain (quotes, other ids, other separators) is left to `tables.py`, which is five times as slow."""

from collections.abc import Sequence

import numpy as np

_LANE = 8
_LONGEST = 512
"""Bytes of the longest cell."""


class KnownIds:
    """N distinct ids, for finding the rows of tables with the same ids in any order."""

    def __init__(self, ids: Sequence[str]) -> None:
        data = "\n".join(ids).encode() + b"\n"
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
        starts = np.concatenate([[0], ends[:-1] + 1])
        self._lanes = _read_lanes(data, starts, ends - starts) if len(ends) == len(ids) else None
        self._order = np.argsort(_hash(self._lanes) if self._lanes is not None else np.empty(0, np.uint64))

    def read(self, data: bytes, columns: Sequence[str]) -> tuple[np.ndarray, list[str]] | None:
        """Return the second column of a CSV in the order of the ids, as codes (N,) int64 and the text of each code.

        Args:
            data: the file.
            columns: names of the two columns.

        Returns:
            None if the table is not plain UTF-8 with commas, has other columns, or does not have each id once.
        """
        data = data.replace(b"\r\n", b"\n") if b"\r" in data else data
        data += b"" if data.endswith(b"\n") else b"\n"
        header, _, body = data.partition(b"\n")
        if header != ",".join(columns).encode() or any(mark in body for mark in (b'"', b"\r", b"\0")):
            return None
        text = np.frombuffer(body, np.uint8)
        commas, ends = np.flatnonzero(text == ord(",")), np.flatnonzero(text == ord("\n"))
        if self._lanes is None or not len(commas) == len(ends) == len(self._order):
            return None
        starts = np.concatenate([[0], ends[:-1] + 1])
        if (commas < starts).any() or (commas > ends).any():
            return None
        lanes, cells = _read_lanes(body, starts, commas - starts), _read_lanes(body, commas + 1, ends - commas - 1)
        if lanes is None or cells is None or len(cells) > 1 or lanes.shape != self._lanes.shape:
            return None
        order = np.argsort(_hash(lanes))  # Equal sets of ids have equal sorted hashes.
        rows = np.empty_like(order)
        rows[order] = self._order
        if (self._lanes[:, rows] != lanes).any():
            return None
        distinct = np.unique(cells[0])
        codes = np.empty(len(rows), dtype=np.int64)
        codes[rows] = np.searchsorted(distinct, cells[0])
        try:
            return codes, [code.tobytes().rstrip(b"\0").decode() for code in distinct]
        except UnicodeDecodeError:
            return None


def _read_lanes(data: bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray | None:
    """Return cells of N given positions as (L, N) uint64, eight bytes each, filled with zeros; None if one is long."""
    longest = int(lengths.max(initial=1))
    if longest > _LONGEST:
        return None
    padded = data + bytes(longest + _LANE)
    # The eight bytes from each byte on.
    windows = np.ndarray(len(data) + longest + 1, "<u8", padded, strides=(1,))
    lanes = []
    for offset in range(0, max(longest, 1), _LANE):
        shifts = (8 * np.clip(_LANE - (lengths - offset), 0, _LANE)).astype(np.uint64)
        kept = np.where(shifts >= 64, np.uint64(0), np.uint64(2**64 - 1) >> np.minimum(shifts, np.uint64(63)))
        lanes.append(windows[starts + offset] & kept)
    return np.stack(lanes)


def _hash(lanes: np.ndarray) -> np.ndarray:
    """Return a hash of each column, (N,) uint64."""
    result = np.zeros(lanes.shape[1], np.uint64)
    for lane in lanes:
        result = (result ^ lane) * np.uint64(0x9E3779B97F4A7C15)
        result ^= result >> np.uint64(29)
    return result
