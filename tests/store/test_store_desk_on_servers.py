"The same desk on another server: a day of it decides, sends and books the same, to the bit."

import os
from pathlib import Path

import pytest
from sqlalchemy import text

from mlt_lib.data.collect import collect
from mlt_lib.jobs.day import broker_for
from mlt_lib.jobs.session import open_desk, seed_history, step
from mlt_lib.settings import Settings
from mlt_lib.store.audit import verify
from mlt_lib.store.bars import write_closes
from mlt_lib.store.database import open_database, snapshot

SETTINGS = (
    "[universe]\nfirst_session = 2020-01-02\n[strategy]\ndecide = daily\n[report]\ntrack_record_start = 2022-12-15\n"
)
SAME = {  # table: what doesn't tell when or by which process it was written
    "bars": "source, symbol, session, event_time, known_time, open, high, low, close, volume",
    "decisions": "namespace, strategy, session, status, origin, data_hash",
    "signals": "namespace, strategy, session, symbol, sleeve, value",
    "target_weights": "namespace, strategy, session, symbol, weight, forecast",
    "order_intents": "client_order_id, symbol, leg, slice, side, quantity, order_type, time_in_force, limit_price, "
    "reference_price, from_weight, to_weight, payload_hash, state, filled_quantity, valid_until",
    "fills": "namespace, client_order_id, symbol, side, quantity, price, session",
    "positions": "namespace, session, symbol, quantity, price, value",
    "performance": "namespace, session, equity, cash, gross, net, pnl, day_return, model_return, book_gap",
    "audit_events": "sequence, namespace, actor, client_order_id, kind",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("desks")


def written(url) -> dict[str, list[tuple[str, ...]]]:
    "What a desk has kept, every number to its last digit."
    engine = open_database(url, create=False)
    assert verify(engine).ok
    with snapshot(engine) as session:
        found = {
            table: sorted(
                tuple(spelt(v) for v in row) for row in session.execute(text(f"SELECT {columns} FROM {table}"))
            )
            for table, columns in SAME.items()
        }
    engine.dispose()
    return found


def spelt(value) -> str:
    "A moment or a date as SQLite keeps it."
    if hasattr(value, "hour"):
        return f"{value:%Y-%m-%dT%H:%M:%S.%f}Z"
    return value.hex() if isinstance(value, float) else str(value)


def live(place: Path, url: str) -> dict[str, list[tuple[str, ...]]]:
    "Some sessions of a desk whose records are there, on the real exchange process; what it has kept."
    place.mkdir()
    (place / "settings.ini").write_text(f"[data]\ndatabase_url = {url}\n{SETTINGS}")
    settings = Settings.find(place / "settings.ini")
    prices = collect(settings).prices
    days = prices.index[-4:]
    engine = open_database(settings.database_url)
    write_closes(engine, prices, settings.source_key)
    engine.dispose()
    with (
        broker_for(settings, "demo", prices, prices.index[-5]) as address,
        open_desk(settings, "demo", address) as desk,
    ):
        seed_history(desk, days[0])
        for day in days:
            step(desk, day)
    return written(settings.database_url)


@pytest.fixture(scope="module")
def on_a_file(place):
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("MLT_") and not name.startswith("MLT_TEST")]:
            environment.delenv(name)
        told = live(place / "sqlite", f"sqlite:///{place}/desk.db")
    assert len(told["bars"]) > 10_000 and told["fills"] and told["target_weights"]
    return told


@pytest.mark.process
@pytest.mark.parametrize("server", ["postgres", "timescale"], indirect=True)
def test_a_desk_on_a_server_does_the_same(server, blank_url, place, on_a_file, monkeypatch):
    for name in [name for name in os.environ if name.startswith("MLT_") and not name.startswith("MLT_TEST")]:
        monkeypatch.delenv(name)
    told = live(place / server, blank_url)
    for table in SAME:
        assert told[table] == on_a_file[table], table
