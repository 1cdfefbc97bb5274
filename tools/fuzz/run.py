"""Reads mutated files in a child process with limits on processor time and memory; reports how each was answered."""

import logging
import multiprocessing
import os
import random
import re
import resource
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from soups.cli.flags import ParsedSettings
from soups.core.errors import PartialFailure, UserError
from soups.core.progress import track
from tools.fuzz.kinds import KINDS
from tools.fuzz.settings import FuzzSettings

PROCESSOR_SECONDS = 5
_WALL_SECONDS = 300
"""A child that waits without computing is stopped after this time."""
_READ = "read"


@dataclass
class Report:
    """How the mutated files of one kind were answered."""

    kind: str
    answers: Counter[str] = field(default_factory=Counter)
    """`read`, or the refusal without names and numbers → number of files."""
    findings: dict[int, str] = field(default_factory=dict)
    """Number of the mutation → what happened."""


def run_fuzz(parsed: ParsedSettings[FuzzSettings]) -> None:
    """Read all mutated files, print the reports, and raise if there are findings."""
    settings = parsed.settings
    reports = []
    for kind in settings.kinds or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            reports.append(fuzz(kind, settings, Path(folder)))
        print(format_report(reports[-1]))
    if found := sum(len(report.findings) for report in reports):
        raise PartialFailure(f"{found} findings", next_step="repeat one with --kinds KIND --first NUMBER --count 1")


def fuzz(kind: str, settings: FuzzSettings, folder: Path) -> Report:
    """Read mutated files of one kind in child processes; one that ends is a finding, and the next goes on after it."""
    report = Report(kind)
    last = settings.first + (settings.count or KINDS[kind].count)
    numbers = track(_answers(kind, settings, folder, settings.first, last), f"mutated {kind}", last - settings.first)
    for number, answer, is_finding in numbers:
        if is_finding:
            report.findings[number] = answer
        else:
            report.answers[answer] += 1
    return report


def _answers(
    kind: str, settings: FuzzSettings, folder: Path, number: int, last: int
) -> Iterator[tuple[int, str, bool]]:
    context = multiprocessing.get_context("spawn")
    while number < last:
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_read_files, args=(kind, settings, folder, number, last, sender), daemon=True)
        child.start()
        sender.close()
        try:
            receiver.recv()
        except EOFError as error:
            raise RuntimeError(f"the valid {kind} could not be read: see above") from error
        try:
            while number < last:
                if not receiver.poll(_WALL_SECONDS):
                    child.kill()
                yield number, *receiver.recv()
                number += 1
        except EOFError:
            child.join()
            yield number, _explain_end(child.exitcode), True
            number += 1
        child.join()


def _explain_end(code: int | None) -> str:
    if code == -signal.SIGPROF:
        return f"more than {PROCESSOR_SECONDS} s of processor time"
    return f"the process ended with {signal.Signals(-code).name if code is not None and code < 0 else code}"


def _read_files(kind: str, settings: FuzzSettings, folder: Path, first: int, last: int, sender: Connection) -> None:
    """Read the mutations `first` to `last`; SIGPROF ends this process, also within a library, if one takes too long."""
    logging.getLogger("soups").setLevel(logging.CRITICAL)
    files = KINDS[kind].make(folder)
    contents = [content for _, content, _ in files]
    for name, content, read in files:  # Everything that is imported late is imported now.
        (folder / name).write_bytes(content)
        read(folder / name)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + int(settings.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sender.send(None)
    with open(os.devnull, "w") as nothing:  # noqa: PTH123 -- Libraries print to file descriptors.
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    for number in range(first, last):
        generator = random.Random(f"{kind} {settings.seed} {number}")
        name, content, read = generator.choice(files)
        mutated = KINDS[kind].mutate(content, contents, generator)
        path = folder / f"mutated-{name}"
        path.write_bytes(mutated)
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
        answer, is_finding = _try(read, path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if is_finding and settings.keep is not None:
            settings.keep.mkdir(parents=True, exist_ok=True)
            (settings.keep / f"{number}-{name}").write_bytes(mutated)
        sender.send((answer, is_finding))


def _try(read: object, path: Path) -> tuple[str, bool]:
    assert callable(read)
    try:
        read(path)
    except UserError as error:
        return _without_details(error, path), False
    except BaseException:
        return "".join(traceback.format_exc().splitlines(keepends=True)[-12:]), True
    return _READ, False


def _without_details(error: UserError, path: Path) -> str:
    """Return the problem without the path, quoted values and numbers, so that equal refusals are counted together."""
    text = error.problem.replace(str(path), "FILE").split("\n")[0]
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", text.split(" (")[0])
    return re.sub(r"\d+", "N", text)[:90]


def format_report(report: Report, most: int = 12) -> str:
    """Return the counts of a kind as text: read, refused by reason, findings."""
    total = report.answers.total() + len(report.findings)
    refused = report.answers.total() - report.answers[_READ]
    lines = [f"{report.kind}: {total:,} files: {report.answers[_READ]:,} read, {refused:,} refused"]
    lines[0] += f", {len(report.findings)} findings"
    reasons = [(reason, count) for reason, count in report.answers.most_common() if reason != _READ]
    lines += [f"  {count:8,}  {reason}" for reason, count in reasons[:most]]
    if len(reasons) > most:
        lines.append(f"  {sum(count for _, count in reasons[most:]):8,}  {len(reasons) - most} other reasons")
    lines += [f"  finding {number}: {text}" for number, text in report.findings.items()]
    return "\n".join(lines)
