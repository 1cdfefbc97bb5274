"""The short form of the fuzzing, and what counts as a finding."""

import multiprocessing
import os
import random
import signal
from pathlib import Path

import pytest

from soups.core.errors import DataError
from tools.fuzz import run
from tools.fuzz.kinds import KINDS, Kind
from tools.fuzz.mutations import mutate_bytes, mutate_text
from tools.fuzz.run import Report, format_report, fuzz
from tools.fuzz.settings import FuzzSettings


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    report = fuzz(kind, FuzzSettings(count=150, seed=1), tmp_path)
    assert report.findings == {}
    assert report.answers.total() == 150 and 5 < report.answers["read"] < 145


def _make_faulty(folder: Path) -> list[tuple[str, bytes, object]]:
    def read(path: Path) -> None:
        number = len(path.read_bytes())
        if number == 2:
            raise DataError(f"{path}: line 7 of 'x' is wrong")
        if number == 3:
            raise ZeroDivisionError
        if number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        while number == 5:
            pass

    return [("a", b"a", read)]


def _grow(content: bytes, others: object, generator: random.Random) -> bytes:
    return b"a" * generator.randint(1, 5)


def test_exceptions_crashes_and_loops_are_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child reads files of 1 to 5 bytes: read, refused, an exception, a crash, a loop."""
    monkeypatch.setattr(run, "PROCESSOR_SECONDS", 0.2)
    monkeypatch.setitem(KINDS, "faulty", Kind(10, _make_faulty, _grow))  # type: ignore[arg-type]
    fork = multiprocessing.get_context("fork")  # A spawned child would not know the kind.
    monkeypatch.setattr(run.multiprocessing, "get_context", lambda _: fork)
    report = fuzz("faulty", FuzzSettings(count=30), tmp_path)
    assert report.answers.keys() == {"read", "FILE: line N of '…' is wrong"}
    kinds = {text.strip().splitlines()[-1] for text in report.findings.values()}
    assert kinds == {"ZeroDivisionError", "the process ended with SIGKILL", "more than 0.2 s of processor time"}
    assert report.answers.total() + len(report.findings) == 30
    assert "faulty: 30 files" in format_report(report)


def test_mutations_depend_on_the_generator_only() -> None:
    data, others = b"image,label\na.png,cat\n", [b"other"]
    for mutate in (mutate_bytes, mutate_text):
        texts = [mutate(data, others, random.Random(seed)) for seed in (1, 1, 2, 3)]
        assert texts[0] == texts[1] and len(set(texts)) == 3


def test_reports_have_the_most_frequent_reasons_first() -> None:
    report = Report("tables")
    report.answers.update({"read": 3, "rare": 1, "often": 2})
    assert format_report(report, most=1).splitlines() == [
        *("tables: 6 files: 3 read, 3 refused, 0 findings", "         2  often", "         1  1 other reasons")
    ]
