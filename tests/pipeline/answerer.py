"""Example scripts themselves, in a short form: bash runs them, and each `python` in them is answered here.

A `python` of our own stands first on the path. It hands its words to the test, which runs the command in this process
(importing torch thirty times would take a minute and a half), and prints what that printed.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

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


class Answerer:
    """Runs the commands of one script, and remembers them."""

    def __init__(self, folder: Path, smaller: Mapping[str, Mapping[str, str]], network: str = "") -> None:
        """
        Args:
            folder: to put the stand-in into.
            smaller: command → flags that it is given last, which count.
            network: what the flag `--model` stands for among these, and what `make_base.py` prints.
        """
        self.smaller, self.network, self.commands = smaller, network, []
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
        """The exit code of a command with what is told of it in `smaller`."""
        if file.endswith("make_base.py"):
            print(self.network.removeprefix("local-dir:"))
            return 0
        told = dict(self.smaller.get(Path(file).name, {}))
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
