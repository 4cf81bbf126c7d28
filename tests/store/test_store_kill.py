"""PostgreSQL killed with SIGKILL, every process of it at once, while bars and orders go in; then started again.

The writers are told nothing: they must go on by themselves. Whatever they were told is written must be there, once, and
whole. The server is one of our own with fsync on, as a real one has. MLT_TEST_KILLS says how often (`make soak`: 100).
"""

import datetime as dt
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import servers
from sqlalchemy import select, text

from mlt_lib.data.sample import closes
from mlt_lib.store import audit
from mlt_lib.store.database import open_database, retried, snapshot, transaction
from mlt_lib.store.restatements import write_bars
from mlt_lib.store.schema import Decision, Instrument, Signal

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy/services"))
from cluster import Cluster, free_port, programs  # noqa: E402

KILLS = int(os.environ.get("MLT_TEST_KILLS", "3"))
SYMBOLS = tuple(f"S{n:03}" for n in range(50))
SESSIONS = 10  # of one batch of bars
LONG = 60.0  # seconds within which a writer must be at work again
DAYS = closes().index  # 8,312 sessions


@pytest.fixture
def cluster():
    "A server of our own, durable, with the desk's tables."
    servers.postgres_url()  # where there is none, there is nothing to kill either
    folder = Path(tempfile.mkdtemp(prefix="mlt-kill-", dir="/var/tmp"))
    os.chmod(folder, 0o755)  # the server runs as another user
    cluster = Cluster(
        programs(), folder / "server", free_port(), options=("fsync=on", "recovery_init_sync_method=syncfs")
    )
    try:
        yield cluster.make().start().create_database()
    finally:
        cluster.remove()
        shutil.rmtree(folder)


def batch(number: int) -> pd.DataFrame:
    "Bars of ten sessions of fifty symbols; the number of the batch stands in each close."
    start = number % 800 * SESSIONS
    days = DAYS[start : start + SESSIONS].as_unit("us")
    symbols, sessions = np.repeat(SYMBOLS, SESSIONS), np.tile(days, len(SYMBOLS))
    bars = pd.DataFrame({"symbol": pd.Series(symbols, dtype="str"), "session": sessions})
    return bars.assign(open=1.0, high=number + 2.0, low=0.5, close=number + 1.0, volume=100.0)


def decide(number: int) -> Callable:
    "The work of one decision: itself, its signals and an event of the trail, or none of them. Done before, it does nothing."
    key = {"namespace": "kill", "strategy": f"s{number}", "session": dt.date(2022, 12, 28)}
    now = dt.datetime(2022, 12, 28, 21, tzinfo=dt.UTC)

    def work(session) -> None:
        if session.get(Decision, tuple(key.values())):
            return
        hashes = {"data_hash": "d", "settings_hash": "s"}
        session.add(Decision(**key, status="decided", origin="live", **hashes, decided_time=now, recorded_time=now))
        session.add_all(Signal(**key, symbol=symbol, sleeve="momentum", value=1.0) for symbol in SYMBOLS[:5])
        audit.append(session, "decision.made", {"number": number}, namespace="kill", actor="test")

    return work


class Writer(threading.Thread):
    "Writes one thing after another until it is told to stop; knows what it was told is written."

    def __init__(self, write: Callable[[int], object]):
        super().__init__(daemon=True)
        self.write, self.done, self.ending, self.broke = write, 0, threading.Event(), None

    def run(self) -> None:
        try:
            while not self.ending.is_set():
                self.write(self.done)
                self.done += 1
        except BaseException as error:  # a writer that gives up is what this test looks for
            self.broke = error

    def goes_on(self) -> None:
        "Wait until it has written two more things: the second began after we looked."
        wanted, until = self.done + 2, time.monotonic() + LONG
        while self.done < wanted:
            assert self.broke is None, f"the writer gave up: {self.broke!r}"
            assert time.monotonic() < until, f"the writer didn't come back within {LONG:.0f} s"
            time.sleep(0.01)


@pytest.mark.process
@pytest.mark.timeout(120 + 30 * KILLS)
def test_a_killed_server_loses_nothing_and_doubles_nothing(cluster):
    engine = open_database(cluster.url)
    with transaction(engine) as session:
        session.add_all(Instrument(symbol=symbol, name=symbol, source="kill") for symbol in SYMBOLS)
    bars = Writer(lambda number: write_bars(engine, batch(number), f"kill{number // 800}"))
    orders = Writer(lambda number: retried(engine, decide(number)))
    pause = random.Random(0)
    for writer in (bars, orders):
        writer.start()
    try:
        for _ in range(KILLS):
            for writer in (bars, orders):
                writer.goes_on()
            time.sleep(pause.random() * 0.3)  # anywhere in a transaction
            cluster.kill()
            time.sleep(pause.random() * 0.5)  # down for a while: connecting fails, too
            cluster.start()
        for writer in (bars, orders):
            writer.goes_on()
    finally:
        for writer in (bars, orders):
            writer.ending.set()
            writer.join(LONG)
    assert bars.broke is None and orders.broke is None
    the_bars_are_there_once(engine, bars.done)
    the_decisions_are_there_whole(engine, orders.done)
    engine.dispose()


def the_bars_are_there_once(engine, batches: int) -> None:
    "Every acknowledged batch, whole, each bar in one row."
    with snapshot(engine) as session:
        found = session.execute(
            text(
                "SELECT close, count(*), count(DISTINCT (source, symbol, session)) FROM bars GROUP BY close ORDER BY 1"
            )
        ).all()
    size = len(SYMBOLS) * SESSIONS
    assert [tuple(row) for row in found] == [(n + 1.0, size, size) for n in range(batches)]


def the_decisions_are_there_whole(engine, decisions: int) -> None:
    "Every acknowledged decision with its five signals and its one event, and a trail that holds."
    with snapshot(engine) as session:
        made = session.scalars(select(Decision.strategy)).all()
        signals = session.execute(text("SELECT strategy, count(*) FROM signals GROUP BY 1")).all()
        events = session.scalars(
            text("SELECT payload FROM audit_events WHERE kind = 'decision.made' ORDER BY sequence")
        ).all()
    assert sorted(made) == sorted(f"s{n}" for n in range(decisions))
    assert {strategy: count for strategy, count in signals} == {f"s{n}": 5 for n in range(decisions)}
    assert events == [f'{{"number":{n}}}' for n in range(decisions)]
    assert audit.verify(engine).ok
