"""Runs the example scripts with bash in a short form, where each `python` command is run by the test's process.

The folder of a stand-in for `python` is first on the path. The stand-in sends its arguments through a socket to the
test, which runs the command in its own process (importing torch thirty times would take a minute and a half), and
prints what the command printed.
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
stand_in = socket.socket(socket.AF_UNIX)
stand_in.connect(os.environ["ANSWERER"])
stand_in.sendall(json.dumps(sys.argv[1:]).encode())
stand_in.shutdown(socket.SHUT_WR)
code, text = json.loads(stand_in.makefile().read())
print(text, end="")
sys.exit(code)
"""


class Answerer:
    """Runs the commands of one script, and keeps their arguments in `commands`."""

    def __init__(self, folder: Path, smaller: Mapping[str, Mapping[str, str]], network: str = "") -> None:
        """
        Args:
            folder: where the stand-in is written.
            smaller: command → flags that are appended to its arguments, so that they replace earlier ones.
            network: value of `--model` wherever `smaller` names it, and what `make_base.py` prints.
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
        """Run a script of the working folder; returns exit code, stdout and stderr."""
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
        """Read a command's arguments from the stand-in, run it, and send back its exit code and what it printed."""
        with connection, connection.makefile() as request:
            connection.settimeout(None)
            words = json.loads(request.read())
            self.commands.append(words)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                code = self.execute(*words)
            connection.sendall(json.dumps([code, printed.getvalue()]).encode())

    def execute(self, file: str, *words: str) -> int:
        """Run a command with its flags of `smaller`; returns the exit code."""
        if file.endswith("make_base.py"):
            print(self.network.removeprefix("local-dir:"))
            return 0
        extra = dict(self.smaller.get(Path(file).name, {}))
        if "--model" in extra:
            extra["--model"] = self.network
        arguments = [re.sub(r"_epochs\d+$", "_epochs1", word) for word in words]
        specification = importlib.util.spec_from_file_location(Path(file).stem, ROOT / file)
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        # The last of several values of a flag counts.
        code: int = module.main([*arguments, *(word for pair in extra.items() for word in pair)])
        return code
