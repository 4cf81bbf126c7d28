"""Measure bars into the store and out of it, and write it to docs/figures/store.json.

    .venv/bin/python tests/performance/bench_store.py --runs 3

1.26 million daily bars (500 names, 2,520 sessions) on SQLite, PostgreSQL and TimescaleDB where they run. Beside our rate
stand the object-relational way in (`add_all`, `commit`) and pandas' way out (`read_sql`, `pivot`), in the same run; the way
in by objects is measured on fewer rows, since it takes minutes. Rows a second; the median counts against the bound.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from uuid import uuid4

import numpy as np
import pandas as pd
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.orm import Session

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import servers  # noqa: E402
from bench_daily import processor  # noqa: E402

from mlt_lib.market.calendar import session_closes, sessions  # noqa: E402
from mlt_lib.store.bars import data_hash, read_bars, write_bars  # noqa: E402
from mlt_lib.store.database import open_database  # noqa: E402
from mlt_lib.store.schema import Bar  # noqa: E402

NAMES, SESSIONS, OBJECTS = 500, 2520, 50_000
FIELDS = ("open", "high", "low", "close", "volume")
BOUNDS = {  # rows a second, at least; seconds, at most
    ("postgres", "in"): ("rows/s", 300_000),
    ("postgres", "out"): ("rows/s", 800_000),
    ("sqlite", "in"): ("s", 5.0),
    ("sqlite", "out"): ("s", 4.0),
}


def made_up() -> pd.DataFrame:
    "Five hundred random walks, as a source would tell them."
    rng, days = np.random.default_rng(1), sessions("2012-01-03", "2022-12-30")[:SESSIONS]
    close = 50 * np.exp(np.cumsum(0.01 * rng.standard_normal((NAMES, SESSIONS)), axis=1)).ravel()
    names = np.repeat([f"S{n:03}" for n in range(NAMES)], SESSIONS)
    frame = pd.DataFrame(
        {"symbol": names, "session": np.tile(days, NAMES), "open": close * 0.999, "high": close * 1.01}
    )
    return frame.assign(low=close * 0.99, close=close, volume=np.floor(1e6 * rng.random(len(close))))


def seconds(work: Callable[[], object]) -> float:
    "How long it takes."
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def new_database(server: str, folder: str) -> tuple[Engine, Callable[[], None]]:
    "An empty database at the newest revision, and how to take it away."
    if server == "sqlite":
        engine = open_database(f"sqlite:///{folder}/{uuid4().hex}.db")
        return engine, engine.dispose
    address, name = make_url(servers.found(server)[0]), f"mlt_bench_{uuid4().hex[:8]}"
    admin = create_engine(address.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = open_database(address.set(database=name))

    def remove() -> None:
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))

    return engine, remove


def by_objects(engine: Engine, bars: pd.DataFrame) -> None:
    "One object for each row, as the object-relational way has it."
    at = session_closes(pd.DatetimeIndex(bars["session"])).to_pydatetime()
    rows = bars.assign(session=bars["session"].dt.date).to_dict("records")
    with Session(engine.execution_options(writes=True)) as session:
        session.add_all(
            Bar(source="objects", event_time=t, known_time=t, recorded_time=at[0], **row)
            for t, row in zip(at, rows, strict=True)
        )
        session.commit()


def by_pandas(engine: Engine) -> pd.DataFrame:
    "The closes as read_sql and pivot give them."
    with engine.connect() as connection:
        rows = pd.read_sql_query(text("SELECT symbol, session, close FROM bars WHERE source = 'bench'"), connection)
    return rows.pivot(index="session", columns="symbol", values="close")


def measured(server: str, bars: pd.DataFrame, folder: str, peers: bool) -> dict[str, float]:
    "Seconds of each way, on a database of its own."
    engine, remove = new_database(server, folder)
    try:
        found = {"in": seconds(lambda: write_bars(engine, bars, "bench"))}
        if server != "sqlite":
            with engine.begin() as connection:
                connection.execute(text("ANALYZE bars"))
        found["out"] = seconds(lambda: read_bars(engine, "bench"))
        found["out, five fields"] = seconds(lambda: read_bars(engine, "bench", fields=FIELDS))
        found["in again, nothing new"] = seconds(lambda: write_bars(engine, bars, "bench"))
        wide = bars.pivot(index="session", columns="symbol", values="close")
        assert data_hash(read_bars(engine, "bench")["close"]) == data_hash(wide), "what came out isn't what went in"
        if peers:
            found["out by pandas"] = seconds(lambda: by_pandas(engine))
            found["in by objects"] = seconds(lambda: by_objects(engine, bars[:OBJECTS])) * len(bars) / OBJECTS
        return found
    finally:
        remove()


def figures(server: str, runs: list[dict[str, float]], count: int) -> dict[str, dict]:
    "The record of a server: rate, seconds, ratio to the peer, and whether the bound is met."
    found = {}
    for way in runs[0]:
        told = [run[way] for run in runs if way in run]
        peer = {"in": "in by objects", "out": "out by pandas"}.get(way)
        row = {
            "rows_per_s": round(count / median(told)),
            "median_s": round(median(told), 2),
            "worst_s": round(max(told), 2),
            "n": len(told),
        }
        if peer in runs[0]:
            row |= {"peer": peer, "times_faster": round(runs[0][peer] / median(told), 1)}
        if bound := BOUNDS.get((server, way)):
            unit, value = bound
            met = row["rows_per_s"] >= value if unit == "rows/s" else row["median_s"] <= value
            row |= {"bound": f"{value:,} {unit}", "met": bool(met)}
        found[f"{server}: {way}"] = row
    return found


def main() -> int:
    "Measure, write, print a table; 1 when a bound is missed."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/figures/store.json")
    asked = parser.parse_args()
    bars, kept = made_up(), {}
    with tempfile.TemporaryDirectory() as folder:
        for server in ("sqlite", "postgres", "timescale"):
            if server != "sqlite" and not servers.found(server)[0]:
                print(f"{server}: {servers.found(server)[1]}; not measured", file=sys.stderr)
                continue
            runs = [measured(server, bars, folder, peers=n == 0) for n in range(asked.runs)]
            kept |= figures(server, runs, len(bars))
    libraries = {name: version(name) for name in ("SQLAlchemy", "psycopg", "adbc-driver-postgresql", "pandas", "numpy")}
    machine = {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    record = {
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine | {"load_average": round(os.getloadavg()[1], 1)},
        "versions": libraries,
        "rows": len(bars),
        "note": f"in by objects: measured on {OBJECTS:,} rows and scaled; the servers run without fsync, SQLite with it",
    }
    before = json.loads(asked.out.read_text()).get("figures", {}) if asked.out.exists() else {}
    asked.out.write_text(json.dumps(record | {"figures": before | kept}, indent=2) + "\n")
    print(f"{'figure':34} {'rows/s':>10} {'median s':>9} {'worst s':>8} {'times peer':>11}  bound")
    for name, row in kept.items():
        state = f"{row['bound']} {'met' if row['met'] else 'NOT MET'}" if "bound" in row else ""
        print(
            f"{name:34} {row['rows_per_s']:10,} {row['median_s']:9.2f} {row['worst_s']:8.2f} {row.get('times_faster', ''):>11}  {state}"
        )
    return int(any(not row.get("met", True) for row in kept.values()))


if __name__ == "__main__":
    sys.exit(main())
