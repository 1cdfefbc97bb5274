"""Commands as separate processes that can be killed together with their workers."""

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
    """Name of the stage."""
    script: str
    """File name of the script in the repository's root."""
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Workspace:
    """The folders that commands run in."""

    root: Path
    """The repository, which contains the scripts."""
    folder: Path
    """The working folder, which contains the runs and the cache."""

    @property
    def run(self) -> Path:
        """The folder of the sweep's run."""
        return self.folder / "runs" / "toys"

    @property
    def output(self) -> Path:
        """File beside the working folder with the output of the last command."""
        return self.folder.with_name(f"{self.folder.name}.output.txt")

    def last_output(self) -> str:
        """Return the last lines of the output."""
        return self.output.read_text(encoding="utf-8", errors="replace")[-1500:]

    def environment(self) -> Mapping[str, str]:
        """Return the processes' environment: one thread, no network, the repository's code, a separate cache."""
        variables = {"SOUPS_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **variables, "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}


class Process:
    """A process that leads a process group."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        """Exit code after the end; -9 if it was killed."""

    def ended(self) -> bool:
        """Return whether the process has ended, without waiting."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        while not self.ended():
            time.sleep(0.002)
        assert self.code is not None
        return self.code

    def kill(self) -> int:
        """Kill the process group with SIGKILL; returns the exit code (not -9 if the process ended just before)."""
        if not self.ended():  # After the end, the process id may belong to another process.
            os.killpg(self.pid, signal.SIGKILL)
        code = self.wait()
        limit = time.monotonic() + 2  # Killed workers are not children of this process; they end soon.
        while time.monotonic() < limit and _is_alive(self.pid):
            time.sleep(0.002)
        return code


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def start(command: Command, workspace: Workspace, plain: bool) -> Process:
    """Start a command as `python …`, or forked from this process (after `prepare`)."""
    arguments = [str(workspace.root / command.script), *command.arguments]
    if not plain:
        return fork(lambda: _run_script(arguments, workspace))
    with workspace.output.open("wb") as output:
        # `Process` waits for the process, not subprocess.
        child = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=workspace.folder,
            env=dict(workspace.environment()),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
    pid, child.returncode = child.pid, 0
    return Process(pid)


def prepare() -> None:
    """Import what commands import, so that forked commands start at once."""
    import matplotlib

    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    matplotlib.use("agg")
    for name in _HEAVY:
        import_module(name)
    from PIL import Image

    Image.init()


def fork(function: Callable[[], int]) -> Process:
    """Fork a process, leader of its own group, that exits with the function's return value."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid:
        with suppress(OSError):  # The child calls it too; the order does not matter.
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


def redirect(output: Path) -> None:
    """Redirect this process's output to a file."""
    with output.open("wb") as stream, Path(os.devnull).open("rb") as null:
        os.dup2(null.fileno(), 0)
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    # The parent's streams may be replaced, as under pytest.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))


def _run_script(arguments: list[str], workspace: Workspace) -> int:
    """Run a script as `python` does."""
    redirect(workspace.output)
    os.chdir(workspace.folder)
    os.environ.update(workspace.environment())
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
