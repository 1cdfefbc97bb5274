"""One search on many machines: trials in a real PostgreSQL, started here on loopback as an unprivileged user."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import psycopg
import pytest
from optuna.trial import TrialState

import main
from soups.checkpoints.card import read_card
from soups.pipeline.search import search as searching
from soups.pipeline.search import storage as trial_storage
from soups.pipeline.search.trials import Trials, open_trials
from tests.pipeline.search.test_trials import propose
from tests.pipeline.searching import ONE_RATE, ToySearch, started

pytestmark = pytest.mark.second_tier

PLACES = ("/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "/opt/homebrew/opt/postgresql*/bin/initdb")


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest version if there are several."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    folders = [path.parent for place in PLACES for path in Path("/").glob(place[1:])]
    return max(folders, default=None)


def unprivileged() -> str | None:
    """Return the user that the server runs as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Return the URL of a new database; without PostgreSQL, tests are skipped, on CI they fail."""
    folder, needed = programs(), os.environ.get("SOUPS_REQUIRE_POSTGRES") or os.environ.get("CI")
    if folder is None:
        assert not needed, "PostgreSQL is missing: .ci/run installs it"
        pytest.skip("PostgreSQL is not installed")
    user = unprivileged()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Other users may not enter pytest's own folder.
    with tempfile.TemporaryDirectory(prefix="soups-postgres-", ignore_cleanup_errors=True) as home:
        if user is not None:
            shutil.chown(home, user)
        data = Path(home) / "data"
        make = [str(folder / "initdb"), "-D", str(data), "-U", "soups", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(make, check=True, user=user, cwd=home, capture_output=True, timeout=300)
        start = [str(folder / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", home, "-F"]
        start += ["-c", "autovacuum=off", "-c", "jit=off"]
        with subprocess.Popen(start, user=user, cwd=home, stderr=subprocess.DEVNULL) as server:
            try:
                url = f"postgresql+psycopg://soups@127.0.0.1:{port}/postgres"
                wait_until_it_answers(url, server)
                yield url
            finally:
                server.send_signal(2)  # Closes sessions and exits.
                server.wait(600)


def wait_until_it_answers(url: str, server: Any) -> None:
    deadline = time.monotonic() + 600
    while True:
        try:
            psycopg.connect(url.replace("+psycopg", "")).close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)


def opened(name: str, folder: Path, url: str) -> Trials:
    found = open_trials(name, folder, url)
    found.create_study("maximize", {"a": 1})
    return found


def work(name: str, folder: Path, url: str) -> None:
    """Run all trials of one machine."""
    mine = opened(name, folder, url)
    while True:
        with mine.claim(4, propose) as trial:
            if trial is None:
                return
            mine.report(trial, 1, 0.1)
            mine.finish(trial, TrialState.COMPLETE, float(trial.number))


def test_machines_share_the_trials(database: str, tmp_path: Path, processes: ForkServerContext) -> None:
    other = processes.Process(target=work, args=("shared", tmp_path / "a", database))
    other.start()
    work("shared", tmp_path / "b", database)
    other.join(600)
    found = opened("shared", tmp_path / "c", database)
    trials = found.all()
    assert other.exitcode == 0 and found.recorded_settings() == {"a": 1}
    # Both machines may see one missing trial at the same moment.
    assert 4 <= len(trials) <= 5 and {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({trial.number for trial in trials}) == len(trials)


def age_heartbeats(url: str) -> None:
    """Make all heartbeats an hour older, which is longer than any machine may be silent."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour'")


def seconds_since_heartbeat(url: str, trial_id: int) -> float:
    """Return the age of a trial's last heartbeat by the database's own clock."""
    age = "SELECT extract(epoch FROM current_timestamp - heartbeat) FROM trial_heartbeats WHERE trial_id = %s"
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute(age, (trial_id,)).fetchone()
    assert row is not None
    return float(row[0])


def test_a_trial_without_heartbeats_is_resumed_by_another_machine(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = opened("beats", tmp_path / "there", database)
    # The database still allows a minute without one.
    monkeypatch.setattr(there.storage, "get_heartbeat_interval", lambda: 0.05)
    here = opened("beats", tmp_path / "here", database)
    assert there.place != here.place
    with there.claim(1, propose) as trial:
        assert trial is not None
        age_heartbeats(database)
        deadline = time.monotonic() + 600
        while seconds_since_heartbeat(database, trial._trial_id) > 1800:  # Until the trial's own thread renews it.
            assert time.monotonic() < deadline, "the trial sends no heartbeat"
            time.sleep(0.02)
        with here.claim(1, propose) as taken:
            assert taken is None
    with here.claim(1, propose) as taken:
        assert taken is None  # The last heartbeat is recent, so its machine may still be alive.
    age_heartbeats(database)
    with here.claim(1, propose) as taken:
        pass
    assert taken is not None and (taken.number, taken.params) == (0, trial.params)
    with replace(here, folder=tmp_path / "there").claim(1, propose) as free:
        assert free is None  # Its new owner sends heartbeats.


def test_a_dead_process_of_the_same_machine_is_detected_at_once(database: str, tmp_path: Path) -> None:
    with opened("own", tmp_path, database).claim(1, propose) as trial:
        assert trial is not None
    with opened("own", tmp_path, database).claim(1, propose) as again:
        assert again is not None and again.number == 0


def test_the_command_from_two_processes_at_once(
    database: str, unstarted_search: ToySearch, processes: ForkServerContext, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(unstarted_search.run)  # Both processes create it.
    flags = ("--storage", database, "--trials", "3")
    with ThreadPoolExecutor(2) as both:
        first = both.submit(started, processes, unstarted_search, *flags, stopped="terminated")
        second = both.submit(started, processes, unstarted_search, *flags, stopped="waits")
        ends = [first.result(), second.result()]
    for end in ends:
        end.join(600)
    assert [end.exitcode for end in ends] == [143, 0]
    assert unstarted_search.search(*flags) == 0
    output = capsys.readouterr()
    assert "search toys: 3 complete" in output.out and "trial 0" not in output.err  # Nothing was left to do.
    trials_ = open_trials("toys", unstarted_search.run, database).all()
    assert [(trial.number, trial.state) for trial in trials_] == [(n, TrialState.COMPLETE) for n in range(3)]
    rows = unstarted_search.rows()
    assert (
        sorted(row["model"] for row in rows) == sorted(unstarted_search.models())
        and len(rows) == len(unstarted_search.models()) == 3
    )
    for number, row in enumerate(rows):
        assert unstarted_search.epochs(number) == int(row["epochs"])
    assert not (unstarted_search.run / "study.journal").exists()
    assert main.main(["--greedy-soup", "--name", "toys"]) == 0
    soup = read_card(unstarted_search.run / "models" / "toys_greedy_soup.safetensors")
    assert soup is not None and soup.soup is not None
    best = min(rows, key=lambda row: float(row["log_loss"]))["model"]
    names = [part.name for part in soup.soup.ingredients]
    assert best in names and set(names) <= set(unstarted_search.models())


def test_a_database_that_stops_responding(
    database: str, unstarted_search: ToySearch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(text: str) -> None:
        with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(text)

    storage = trial_storage.open_storage(unstarted_search.run, database)
    with suppress(KeyError):  # It may exist from another test.
        storage.delete_study(storage.get_study_id_from_name("toys"))
    execute("CREATE ROLE guest SUPERUSER LOGIN PASSWORD 'secret'")
    train_one = searching.train_one

    def train(task: Any, watch: Any) -> Path:
        path = train_one(task, watch)
        execute("ALTER ROLE guest NOLOGIN")
        return path

    unstarted_search.write_space(ONE_RATE)
    flags = ("--storage", database.replace("soups@", "guest:secret@"), "--epochs", "1", "--trials", "1")
    with monkeypatch.context() as patch:
        patch.setattr(searching, "train_one", train)
        assert unstarted_search.search(*flags) == 4
    error = capsys.readouterr().err
    assert "the database stopped responding" in error and "not permitted to log in" in error
    assert "Traceback" not in error and "secret" not in error
    execute("ALTER ROLE guest LOGIN")
    before = unstarted_search.models()
    assert len(before) == 1 and unstarted_search.search(*flags) == 0
    assert unstarted_search.models() == before and [row["state"] for row in unstarted_search.rows()] == ["complete"]
