"""Runs two versions of the repository side by side on toy data and reports what differs."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from soups.core.errors import DataError, UsageError
from tools.compare_versions.folders import Comparison, compare_folders, compare_models_strictly
from tools.compare_versions.report import print_comparison
from tools.compare_versions.settings import CompareVersionsSettings
from tools.compare_versions.steps import Step, rebuild_step, short_steps_for, steps_for, steps_on_old_runs
from tools.compare_versions.toys import make_toys

_LIMIT_SECONDS = 600
_POLL_SECONDS = 0.005
_TERMINATED = 128 + signal.SIGTERM
_OLD_RUNS = "old runs by new code: "


class Version:
    """A copy of the repository at one version, a working folder, and what its commands printed."""

    def __init__(self, label: str, folder: Path, code: Path, *, must_succeed: bool = False) -> None:
        self.label, self.folder, self.code, self.must_succeed = label, folder, code, must_succeed
        self.work, self.printed, self.temporary = folder / "work", folder / "printed", folder / "tmp"
        for path in (self.work, self.printed, self.temporary):
            path.mkdir(parents=True, exist_ok=True)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("SM_", "SOUPS_", "WANDB_"))
        } | {
            "COLUMNS": "200",
            "HF_HUB_OFFLINE": "1",
            "MPLBACKEND": "Agg",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(code),
            "SOUPS_CACHE": str(folder / "cache"),
            "TMPDIR": str(self.temporary),
        }

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the working folder and return what it printed."""
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=_LIMIT_SECONDS
        )

    def check_imports(self) -> None:
        """Check that the version imports its own `soups`, not one that is installed.

        Raises:
            DataError: it imports another one.
        """
        done = self.python("-c", "import soups; print(soups.__file__)")
        if not Path(done.stdout.strip() or "/").is_relative_to(self.code):
            found = done.stdout.strip() or done.stderr.strip()
            raise DataError(f"{self.label}: `import soups` finds another version", expected=str(self.code), found=found)

    def recipes(self) -> list[str]:
        """Names of all recipes, as `main.py --list-recipes` prints them."""
        lines = self.python(str(self.code / "main.py"), "--list-recipes").stdout.splitlines()
        return [line.split()[0] for line in lines if line[:1].strip()]

    def run(self, steps: Sequence[Step], stop: threading.Event) -> None:
        """Run steps in order, until `stop` is set; stdout and exit code of each go to the folder `printed`.

        Args:
            steps: the commands.
            stop: set by the older version when a step fails: what fails there would compare nothing.
        """
        for number, step in enumerate(steps, 1):
            if stop.is_set():
                return
            start = time.monotonic()
            code = self._run_step(step, f"{number:02}_{step.name.replace(' ', '_')}", stop)
            seconds = time.monotonic() - start
            failed = code != (_TERMINATED if step.interrupt_at else 0)
            note = f", exit code {code}" if failed else ""
            _progress(f"{self.label}: {number} of {len(steps)}, {step.name}, {seconds:.1f} s{note}")
            if failed and self.must_succeed:
                stop.set()

    def failures(self, steps: Sequence[Step]) -> Iterator[str]:
        """Steps with another exit code than expected, with the end of their stderr."""
        for number, step in enumerate(steps, 1):
            stem = self.printed / f"{number:02}_{step.name.replace(' ', '_')}"
            if not stem.with_suffix(".code").exists():
                return
            code = stem.with_suffix(".code").read_text().strip()
            if code != str(_TERMINATED if step.interrupt_at else 0):
                stderr = (self.folder / "stderr" / f"{stem.name}.txt").read_text().splitlines()[-8:]
                yield "\n    ".join([f"{step.name}: exit code {code}: {' '.join(step.arguments)}", *stderr])

    def _run_step(self, step: Step, stem: str, stop: threading.Event) -> int:
        """Run one step; its stderr (progress, with speeds) is kept apart and not compared."""
        errors = self.folder / "stderr" / f"{stem}.txt"
        errors.parent.mkdir(exist_ok=True)
        command = [sys.executable, str(self.code / step.arguments[0]), *step.arguments[1:]]
        with (self.printed / f"{stem}.stdout").open("wb") as stdout, errors.open("wb") as stderr:
            process = subprocess.Popen(command, cwd=self.work, env=self.environment, stdout=stdout, stderr=stderr)
            if step.interrupt_at:
                _terminate_at(process, self.work / step.interrupt_at, stop)
            code = _exit_code_of(process, stop)
        (self.printed / f"{stem}.code").write_text(f"{code}\n")
        return code


def compare_versions(settings: CompareVersionsSettings, root: Path) -> None:
    """Run both versions, compare them, and print the result.

    Args:
        settings: of the command.
        root: of the repository.

    Raises:
        UsageError: no such commit, or --keep is not empty.
        DataError: something differs, or a step fails in the older version.
    """
    start = time.monotonic()
    with _folder(settings.keep) as folder:
        old_code = _checkout(root, settings.before, folder / "before" / "code")
        before = Version("before", folder / "before", old_code, must_succeed=True)
        after = Version("after", folder / "after", _checkout(root, settings.after, folder / "after" / "code"))
        _progress("makes toy data")
        toys = folder / "toys"
        make_toys(toys)
        for version in (before, after):
            version.check_imports()
        steps = short_steps_for(toys) if settings.short else steps_for(toys, before.recipes())
        _run_side_by_side([(before, steps), (after, steps)])
        _require_success(before, steps)
        result = Comparison()
        _compare(before, after, result, folder)
        _work_on_old_runs(before, after, toys, result, settings.short)
        newer = settings.after or "the working tree"
        failures = list(after.failures(steps))
        minutes = (time.monotonic() - start) / 60
        print_comparison(result, f"{settings.before} against {newer}, {len(steps)} commands each, {minutes:.1f} min")
        for failure in failures:
            print(f"failed: {failure}")
    if not result.equal:
        count = sum(finding.kind == "difference" for finding in result.findings)
        raise DataError(f"{settings.before} and {newer}: {count} differences", expected="none but sentences")


def _compare(before: Version, after: Version, result: Comparison, folder: Path) -> None:
    paths = {str(version.code): "<code>" for version in (before, after)}
    paths |= {str(version.folder): "<folder>" for version in (before, after)} | {str(folder): "<all>"}
    compare_folders(before.work, after.work, result, paths=paths)
    compare_folders(before.printed, after.printed, result, paths=paths, hashes=(before.work, after.work))


def _work_on_old_runs(before: Version, after: Version, toys: Path, result: Comparison, short: bool) -> None:
    """Let the newer version work in copies of the older version's folder, and compare them with the original.

    In one copy finished steps are repeated: no file may change. In the other one byte of each soup's last tensor is
    changed, and the soups are rebuilt: they must be those of the older version again.
    """
    again, rebuilt = (
        Version(label, before.folder.parent / label, after.code) for label in ("old_runs_again", "old_soups_rebuilt")
    )
    for version in (again, rebuilt):
        shutil.copytree(before.work, version.work, dirs_exist_ok=True, symlinks=True)
    soups = [path for path in sorted(before.work.glob("runs/*/models/*.safetensors")) if _is_soup(path)]
    for path in soups:
        _change_last_byte(rebuilt.work / path.relative_to(before.work))
    for path in _to_predict_again(again.work):
        path.unlink()
    repeated = steps_on_old_runs(toys, short=short)
    rebuilding = [rebuild_step([path.relative_to(before.work).as_posix() for path in soups])]
    _run_side_by_side([(again, repeated), (rebuilt, rebuilding)])
    for version, steps in ((again, repeated), (rebuilt, rebuilding)):
        for failure in version.failures(steps):
            result.fail(f"{_OLD_RUNS}{version.label}", failure)
    compare_models_strictly(before.work, again.work, result, title=f"{_OLD_RUNS}repeated, ")
    compare_models_strictly(before.work, rebuilt.work, result, title=f"{_OLD_RUNS}rebuilt, ")
    paths = {str(before.folder): "<folder>", str(again.folder): "<folder>"}
    compare_folders(before.work, again.work, result, title=f"{_OLD_RUNS}repeated, ", paths=paths)


def _to_predict_again(work: Path) -> list[Path]:
    """Files that the repeated steps must write again: tables of predictions, and test logits of two fine-tunes."""
    stems = {"soft_voting", "weighted_ensemble", "joined", "toys_greedy_soup", "mask0_epochs3", "mask1_epochs3"}
    tables = [path for path in work.glob("runs/*/output/*.csv") if path.stem in stems]
    models = [path for path in work.glob("runs/*/models/*.safetensors") if path.stem in stems - {"toys_greedy_soup"}]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in models]
    return tables + [path for digest in hashes for path in work.glob(f"runs/*/logits/{digest[:16]}-test-*.npy")]


def _is_soup(path: Path) -> bool:
    """Whether the card in a checkpoint's header says that it is a soup."""
    with path.open("rb") as stream:
        header = stream.read(int.from_bytes(stream.read(8), "little"))
    return rb"\"kind\":\"soup\"" in header


def _change_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _require_success(version: Version, steps: Sequence[Step]) -> None:
    """What fails in the older version would compare nothing.

    Raises:
        DataError: a step ended with another exit code than expected.
    """
    failures = list(version.failures(steps))
    if failures:
        raise DataError(f"{version.label}: {len(failures)} steps failed\n  " + "\n  ".join(failures))


def _run_side_by_side(work: Iterable[tuple[Version, Sequence[Step]]]) -> None:
    """Run the steps of each version in order, the versions at the same time."""
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        try:
            for running in [pool.submit(version.run, steps, stop) for version, steps in work]:
                running.result()
        finally:  # After Ctrl-C, too: the pool waits for its threads, and they for their processes.
            stop.set()


def _exit_code_of(process: subprocess.Popen[bytes], stop: threading.Event) -> int:
    """Wait for a process and return its exit code; one that takes too long, or is not needed any more, is ended."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while True:
        try:
            return process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if stop.is_set() or time.monotonic() > deadline:
                process.kill()


def _terminate_at(process: subprocess.Popen[bytes], path: Path, stop: threading.Event) -> None:
    """Send SIGTERM as soon as a file has content; a process that ends by itself is left alone."""
    while process.poll() is None and not stop.is_set():
        if path.is_file() and path.stat().st_size:
            process.send_signal(signal.SIGTERM)
            return
        time.sleep(_POLL_SECONDS)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """The folder to work in: the named one, or one that is removed in the end."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="compare-versions-") as name:
            yield Path(name).resolve()
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise UsageError(f"--keep {keep}: is there already", expected="a new or an empty folder")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


def _checkout(root: Path, commit: str | None, folder: Path) -> Path:
    """Copy the repository's files of a commit, or those of the working tree, and return the folder.

    Raises:
        UsageError: no such commit.
    """
    folder.mkdir(parents=True)
    if commit is not None:
        archive = subprocess.run(["git", "-C", str(root), "archive", commit], capture_output=True)
        if archive.returncode:
            found = archive.stderr.decode(errors="replace").strip()
            raise UsageError(f"{commit}: no such commit", expected="a commit of this repository", found=found)
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        return folder
    listing = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    return folder


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
