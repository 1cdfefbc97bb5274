"""One search, many machines: trials in a real PostgreSQL, started here on loopback as an unprivileged user."""

import multiprocessing
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from soups.pipeline import trial_storage, trials
from soups.pipeline.trials import Trials, open_trials
from tests.pipeline.test_trials import propose

PLACES = ("/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "/opt/homebrew/opt/postgresql*/bin/initdb")


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, the newest where there are several."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    folders = [path.parent for place in PLACES for path in Path("/").glob(place[1:])]
    return max(folders, default=None)


def unprivileged() -> str | None:
    """Whom the server runs as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of a database of its own; where PostgreSQL is missing, tests are skipped, on CI they fail."""
    folder, needed = programs(), os.environ.get("SOUPS_REQUIRE_POSTGRES") or os.environ.get("CI")
    if folder is None:
        assert not needed, "PostgreSQL is missing: .ci/run installs it"
        pytest.skip("PostgreSQL is not installed")
    user = unprivileged()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Not below pytest's own folder, which others may not enter.
    with tempfile.TemporaryDirectory(prefix="soups-postgres-", ignore_cleanup_errors=True) as home:
        if user is not None:
            shutil.chown(home, user)
        data = Path(home) / "data"
        make = [str(folder / "initdb"), "-D", str(data), "-U", "soups", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(make, check=True, user=user, cwd=home, capture_output=True, timeout=300)
        start = [str(folder / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", home, "-F"]
        with subprocess.Popen(start, user=user, cwd=home, stderr=subprocess.DEVNULL) as server:
            try:
                url = f"postgresql+psycopg://soups@127.0.0.1:{port}/postgres"
                wait_until_it_answers(url, server)
                yield url
            finally:
                server.send_signal(2)  # Ends sessions and leaves.
                server.wait(60)


def wait_until_it_answers(url: str, server: Any) -> None:
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url.replace("+psycopg", "")).close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)


def opened(name: str, folder: Path, url: str) -> Trials:
    found = open_trials(name, folder, url)
    found.begin("maximize", {"a": 1})
    return found


def work(name: str, folder: Path, url: str) -> None:
    """A machine's whole work."""
    mine = opened(name, folder, url)
    while True:
        with mine.claimed(6, propose) as trial:
            if trial is None:
                return
            mine.report(trial, 1, 0.1)
            mine.finish(trial, TrialState.COMPLETE, float(trial.number))


def test_machines_share_the_trials(database: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=work, args=("shared", tmp_path / "a", database))
    other.start()
    work("shared", tmp_path / "b", database)
    other.join(120)
    found = opened("shared", tmp_path / "c", database)
    trials = found.all()
    assert other.exitcode == 0 and found.settings() == {"a": 1}
    # Two machines may both see one trial missing at the same moment.
    assert 6 <= len(trials) <= 7 and {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({trial.number for trial in trials}) == len(trials)


def test_a_machine_that_is_gone_is_noticed(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (trial_storage, trials):
        monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 1)
    there = opened("beats", tmp_path / "there", database)
    here = opened("beats", tmp_path / "here", database)
    assert there.place != here.place
    with there.claimed(1, propose) as trial:
        time.sleep(3.5)  # Longer than two beats: it is alive because it says so.
        with here.claimed(1, propose) as taken:
            assert trial is not None and taken is None
    deadline = time.monotonic() + 30
    while taken is None and time.monotonic() < deadline:
        with here.claimed(1, propose) as taken:
            time.sleep(0.2)
    assert taken is not None and (taken.number, taken.params) == (0, trial.params)
    with replace(here, folder=tmp_path / "there").claimed(1, propose) as free:
        assert free is None  # Its new owner says that it lives.


def test_a_machine_knows_its_own_dead_at_once(database: str, tmp_path: Path) -> None:
    with opened("own", tmp_path, database).claimed(1, propose) as trial:
        assert trial is not None
    with opened("own", tmp_path, database).claimed(1, propose) as again:
        assert again is not None and again.number == 0
