"""examples/mask/*.sh themselves: bash runs them, and each `python` in them is answered here, on fewer and smaller data.

A `python` of our own stands first on the path. It hands its words to the test, which runs the command in this process
(importing torch thirty times would take a minute and a half), and prints what that printed.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = f"""#!{sys.executable} -S
import json, os, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(os.environ["ANSWERER"])
there.sendall(json.dumps(sys.argv[1:]).encode())
there.shutdown(socket.SHUT_WR)
code, text = json.loads(there.makefile().read())
print(text, end="")
sys.exit(code)
"""
SMALLER = {
    "make_faces.py": {"--train-people": "20", "--test-people": "4", "--jobs": "1"},
    "finetune.py": {"--i": "0-1", "--epochs": "1", "--jobs": "1", "--model": "", "--patience": "1"},
    "main.py": {"--jobs": "1"},
}


class Answerer:
    """Runs the commands of one script, and remembers them."""

    def __init__(self, folder: Path, network: str) -> None:
        self.network, self.commands = network, []
        bin = folder / "bin"
        bin.mkdir()
        (bin / "python").write_text(STAND_IN)
        (bin / "python").chmod(0o755)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(bin / "answers"))
        self.socket.listen()
        self.socket.settimeout(0.2)  # seconds between looks at whether the script has ended
        self.environment = {"ANSWERER": str(bin / "answers"), "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}

    def run(self, script: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a script of this folder."""
        environment = os.environ | self.environment
        with subprocess.Popen(
            ["bash", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            while process.poll() is None:
                with contextlib.suppress(TimeoutError):
                    self.answer(self.socket.accept()[0])
            out, err = process.communicate()
        self.socket.close()
        return process.returncode, out, err

    def answer(self, connection: socket.socket) -> None:
        """One command, from its words to its exit code and what it printed."""
        with connection, connection.makefile() as asked:
            connection.settimeout(None)
            words = json.loads(asked.read())
            self.commands.append(words)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                code = self.execute(*words)
            connection.sendall(json.dumps([code, printed.getvalue()]).encode())

    def execute(self, file: str, *words: str) -> int:
        """The exit code of a command with what is told of size in `SMALLER`."""
        if file.endswith("make_base.py"):
            print(self.network.removeprefix("local-dir:"))
            return 0
        told = dict(SMALLER.get(Path(file).name, {}))
        if "--model" in told:
            told["--model"] = self.network
        arguments = [re.sub(r"_epochs\d+$", "_epochs1", word) for word in words]
        specification = importlib.util.spec_from_file_location(Path(file).stem, ROOT / file)
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        # The last word on a flag counts.
        code: int = module.main([*arguments, *(word for pair in told.items() for word in pair)])
        return code


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository as far as the scripts of the example need it, with nothing to set up."""
    shutil.copytree(ROOT / "examples" / "mask", tmp_path / "examples" / "mask")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "setup.sh").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_whole_way(place: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answerer = Answerer(place, f"local-dir:{tiny_clip}")
    code, out, err = answerer.run("examples/mask/run.sh")
    assert code == 0, capsys.readouterr().err + err
    assert {Path(words[0]).name for words in answerer.commands} == {
        *("make_faces.py", "make_base.py", "show_batch.py", "find_label_errors.py", "disagreement.py"),
        *("finetune.py", "main.py", "inference.py", "validation.py"),
    }
    for title in ("Soups and votes:", "Corrected labels", "The age model beside the greedy soup:"):
        assert title in out
    for row in ("best single", "greedy soup", "split vote", "old repeated", "with age, original formula"):
        assert re.search(rf"^{row} +\d", out, flags=re.MULTILINE)
    assert re.search(r"^together +\d+ +\d+ +\d+ +\d", out, flags=re.MULTILINE)  # planted, rows, found, right
    info = pd.read_csv(place / "data" / "faces" / "eval" / "info.csv")
    written = place / "runs" / "mask" / "output"
    for name in ("mask_greedy_soup", "with_age", "hard_vote", "split_vote", "soft_voting"):
        assert pd.read_csv(written / f"{name}.csv")["ImageID"].tolist() == info["ImageID"].tolist()
    assert "gender" in (written / "validation.txt").read_text()


def test_two_models(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answerer = Answerer(place, "timm:mobilenetv3_small_050")  # stands for EfficientNet-B3
    code, out, err = answerer.run("examples/mask/two_models.sh")
    assert code == 0, capsys.readouterr().err + err
    assert "of 28 images right" in out
    assert len(pd.read_csv(place / "runs" / "mask-gender" / "output" / "weighted_ensemble.csv")) == 28
