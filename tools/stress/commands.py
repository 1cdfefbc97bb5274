"""Commands as processes of their own that can be killed, workers and all."""

import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

_HEAVY = (
    "torch",
    "torchvision",
    "accelerate",
    "albumentations",
    "timm",
    "open_clip",
    "pandas",
    "scipy.stats",
    "sklearn.model_selection",
    "matplotlib.pyplot",
    "safetensors.torch",
    "filelock",
    "tyro",
    "typeguard",
)


@dataclass(frozen=True)
class Command:
    """A command line of the toolkit."""

    stage: str
    """What it is for, in a word."""
    script: str
    """Of the repository's root."""
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where commands run."""

    root: Path
    """Of the repository, where the entry scripts are."""
    folder: Path
    """The working folder; the runs and the cache are in it."""

    @property
    def run(self) -> Path:
        """The folder of the sweep's run."""
        return self.folder / "runs" / "toys"

    @property
    def said(self) -> Path:
        """What the last command said, a file beside the working folder."""
        return self.folder.with_name(f"{self.folder.name}.said.txt")

    def last_words(self) -> str:
        """The end of it."""
        return self.said.read_text(encoding="utf-8", errors="replace")[-1500:]

    def environment(self) -> Mapping[str, str]:
        """Variables of the processes: one thread, no network, the repository's own code, a cache of their own."""
        own = {"SOUPS_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **own, "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}


class Process:
    """A process that leads a group of its own."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        """The exit code, once it has ended; -9 where it was killed."""

    def ended(self) -> bool:
        """Whether it has ended, without waiting."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def wait(self) -> int:
        """The exit code, once it has ended."""
        while not self.ended():
            time.sleep(0.002)
        assert self.code is not None
        return self.code

    def kill(self) -> int:
        """Kill the whole group with SIGKILL; the exit code, which is another than -9 where it ended just before."""
        if not self.ended():  # Else its number may be somebody else's by now.
            os.killpg(self.pid, signal.SIGKILL)
        code = self.wait()
        limit = time.monotonic() + 2  # Killed workers are nobody's children; they end by themselves, soon.
        while time.monotonic() < limit and _is_alive(self.pid):
            time.sleep(0.002)
        return code


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def start(command: Command, place: Place, plain: bool) -> Process:
    """Start a command, as `python …` or forked from this process, which has called `prepare`."""
    arguments = [str(place.root / command.script), *command.arguments]
    if not plain:
        return fork(lambda: _become(arguments, place))
    with place.said.open("wb") as said:
        # Never waited for by subprocess: `Process` does.
        child = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=place.folder,
            env=dict(place.environment()),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            process_group=0,
        )
    pid, child.returncode = child.pid, 0
    return Process(pid)


def prepare() -> None:
    """Import what commands import, so that forked ones start at once."""
    import matplotlib

    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    matplotlib.use("agg")
    for name in _HEAVY:
        import_module(name)
    from PIL import Image

    Image.init()


def fork(function: Callable[[], int]) -> Process:
    """A forked process, leader of a group of its own, that ends with the exit code which the function returns."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid:
        with suppress(OSError):  # The child does it too; whoever comes first.
            os.setpgid(pid, pid)
        return Process(pid)
    code = 70
    try:
        os.setpgid(0, 0)
        code = function()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def redirect(said: Path) -> None:
    """Send what this process says to a file."""
    with said.open("wb") as stream, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    # The parent's streams may stand for something else, as under pytest.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))


def _become(arguments: list[str], place: Place) -> int:
    """Run a script as `python` would."""
    redirect(place.said)
    os.chdir(place.folder)
    os.environ.update(place.environment())
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent))
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return 0
