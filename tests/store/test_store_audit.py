"The audit trail: one chain, and every way of rewriting it shows."

import datetime as dt
import hashlib
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from mlt_lib.errors import StoreError
from mlt_lib.store.audit import FIELDS, GENESIS, Verified, append, canonical, chained, head, verify
from mlt_lib.store.database import snapshot, transaction
from mlt_lib.store.schema import AuditEvent, utc_text

ROOT = Path(__file__).parents[2]
modest = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # each example renews


def fill(engine, count: int) -> list[str]:
    "Append events and return their hashes."
    with transaction(engine) as session:
        noon = dt.datetime(2022, 12, 28, 12, tzinfo=dt.UTC)
        return [
            append(session, f"k{n}", {"n": n}, namespace="demo", actor="test", market_time=noon) for n in range(count)
        ]


def tamper(engine, *statements: str) -> None:
    "What somebody with the file in hand, or a superuser, can do: rid of the triggers, then anything."
    with transaction(engine) as session:
        if engine.dialect.name == "postgresql":
            session.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for name in session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
                session.execute(text(f"DROP TRIGGER {name}"))
        for statement in statements:
            session.execute(text(statement))


# appending


def test_an_empty_trail_holds(engine):
    assert head(engine) == GENESIS
    assert verify(engine) == verify(engine, noted=GENESIS) == Verified(0, GENESIS, True)


def test_the_chain_is_what_anybody_can_compute(engine):
    "An oracle written from the formula alone, without a line of ours."
    with transaction(engine) as session:
        moment = dt.datetime(2022, 12, 28, 16, tzinfo=dt.timezone(dt.timedelta(hours=-5)))
        append(session, "a", {"b": 1, "a": Decimal("0.10")}, namespace="demo", actor="x", client_order_id="mlt-1")
        append(session.connection(), "ü", {"t": moment}, namespace="demo", actor="x", run_id="r", market_time=moment)
    previous = "0" * 64
    with engine.connect() as connection:
        for row in connection.execute(text("SELECT * FROM audit_events ORDER BY sequence")).mappings():
            event = {f: utc_text(v) if isinstance(v := row[f], dt.datetime) else v for f in FIELDS}
            spelled = json.dumps(event, sort_keys=True, separators=(",", ":"))
            assert row["previous_hash"] == previous
            previous = hashlib.sha256((previous + spelled).encode()).hexdigest()
            assert row["hash"] == previous
    assert head(engine) == previous
    assert verify(engine).ok
    with snapshot(engine) as session:
        assert session.scalars(select(AuditEvent.payload)).all() == [
            '{"a":"0.10","b":1}',
            '{"t":"2022-12-28T21:00:00.000000Z"}',
        ]


def test_an_event_shares_the_fate_of_its_transaction(engine):
    fill(engine, 2)
    with pytest.raises(RuntimeError), transaction(engine) as session:
        append(session, "lost", {}, namespace="demo", actor="test")
        raise RuntimeError
    assert verify(engine).count == 2
    fill(engine, 1)
    assert verify(engine) == Verified(3, head(engine), True)


def test_a_naive_market_time_is_refused_and_nothing_written(engine):
    with pytest.raises(StoreError, match="no time zone"), transaction(engine) as session:
        append(session, "k", {}, namespace="demo", actor="test", market_time=dt.datetime(2022, 12, 28))
    assert verify(engine).count == 0


@pytest.mark.process
def test_processes_that_append_at_once_keep_one_chain(engine):
    code = f"""
from mlt_lib.store.audit import append
from mlt_lib.store.database import open_database, transaction
engine = open_database("{engine.url.render_as_string(hide_password=False)}")
for n in range(40):
    with transaction(engine, turn=f"turn {{n % 3}}") as session:
        append(session, "k", {{"n": n}}, namespace="demo", actor="process")
"""
    crowd = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    assert [p.communicate(timeout=60)[1] for p in crowd] == [b""] * 2
    assert verify(engine) == Verified(80, head(engine), True)


# tampering


EVENT = (
    "SELECT 2, namespace, 'nobody', run_id, client_order_id, kind, market_time, wall_time, payload, previous_hash, hash"
)
REWRITES = {
    "update": "UPDATE audit_events SET actor = 'nobody' WHERE sequence = 2",
    "delete": "DELETE FROM audit_events WHERE sequence = 3",
    "replace": f"INSERT OR REPLACE INTO audit_events {EVENT} FROM audit_events WHERE sequence = 2",
}
ON_SERVERS = {
    "replace": f"INSERT INTO audit_events {EVENT} FROM audit_events WHERE sequence = 2 "
    "ON CONFLICT (sequence) DO UPDATE SET actor = 'nobody'",
    "truncate": "TRUNCATE audit_events",
    "merge": "MERGE INTO audit_events a USING (SELECT 2 AS n) s ON a.sequence = s.n WHEN MATCHED THEN DELETE",
}


@pytest.mark.parametrize("attempt", [*REWRITES, "truncate", "merge"])
def test_the_database_refuses_to_rewrite(engine, attempt):
    if engine.dialect.name == "sqlite" and attempt not in REWRITES:
        pytest.skip("SQLite has no such statement")
    fill(engine, 3)
    statement = (REWRITES if engine.dialect.name == "sqlite" else REWRITES | ON_SERVERS)[attempt]
    with pytest.raises(DBAPIError, match="append-only"), transaction(engine) as session:
        session.execute(text(statement))
    assert verify(engine) == Verified(3, head(engine), True)


@pytest.mark.parametrize(
    "change", ["UPDATE audit_tail SET sequence = 0", "DELETE FROM audit_tail", "TRUNCATE audit_tail"]
)
def test_the_memory_of_the_tail_cannot_be_changed_either(engine, change):
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite remembers the highest number by itself")
    fill(engine, 2)
    with pytest.raises(DBAPIError, match="by itself"), transaction(engine) as session:
        session.execute(text(change))
    assert verify(engine).ok


def test_a_number_that_was_taken_back_is_not_missed(engine):
    "A transaction that fails after its event leaves no gap and no suspicion."
    fill(engine, 1)
    with pytest.raises(RuntimeError), transaction(engine) as session:
        for _ in range(3):
            append(session, "lost", {}, namespace="demo", actor="test")
        raise RuntimeError
    assert verify(engine) == Verified(1, head(engine), True)


@pytest.mark.parametrize("field", [f for f in FIELDS if f != "sequence"])
def test_an_altered_field_is_found(engine, field):
    hashes = fill(engine, 5)
    other = "2001-01-01T00:00:00.000000Z" if field.endswith("_time") else "x"
    tamper(engine, f"UPDATE audit_events SET {field} = '{other}' WHERE sequence = 3")
    assert verify(engine) == Verified(2, hashes[1], False, 3, "event 3 was altered")


@modest
@given(st.integers(2, 6), st.data())
def test_any_removal_swap_or_edit_is_found_at_the_first_bad_event(renew, count, data):
    at, other = data.draw(st.permutations(range(1, count + 1)))[:2]
    act = data.draw(st.sampled_from(["remove", "edit", "tail", "swap"]))
    engine = renew()
    fill(engine, count)
    tamper(
        engine,
        *{
            "remove": [f"DELETE FROM audit_events WHERE sequence = {at}"],
            "edit": [f"UPDATE audit_events SET payload = '{{}}' WHERE sequence = {at}"],
            "tail": [f"DELETE FROM audit_events WHERE sequence >= {at}"],
            "swap": [
                f"UPDATE audit_events SET sequence = 999 WHERE sequence = {at}",
                f"UPDATE audit_events SET sequence = {at} WHERE sequence = {other}",
                f"UPDATE audit_events SET sequence = {other} WHERE sequence = 999",
            ],
        }[act],
    )
    found = verify(engine)
    assert not found.ok
    assert found.first_bad == (min(at, other) if act == "swap" else at)
    assert found.count == found.first_bad - 1


def test_an_edit_with_a_matching_hash_breaks_the_next_event(engine):
    fill(engine, 4)
    with snapshot(engine) as session:
        query = text(f"SELECT {', '.join(FIELDS)}, previous_hash FROM audit_events WHERE sequence = 2")
        row = dict(session.execute(query).mappings().one())
    forged = {f: utc_text(v) if isinstance(v := row[f], dt.datetime) else v for f in FIELDS} | {"actor": "nobody"}
    hash = chained(row["previous_hash"], forged)
    tamper(engine, f"UPDATE audit_events SET actor = 'nobody', hash = '{hash}' WHERE sequence = 2")
    found = verify(engine)
    assert (found.ok, found.first_bad, found.reason) == (False, 3, "event 3 doesn't follow the one before it")


def test_a_trail_written_anew_from_the_start_shows_by_a_noted_head(engine):
    noted = fill(engine, 3)[-1]
    fill(engine, 1)
    assert verify(engine, noted).ok
    memory = "DELETE FROM sqlite_sequence" if engine.dialect.name == "sqlite" else "UPDATE audit_tail SET sequence = 0"
    tamper(engine, "DELETE FROM audit_events", memory)
    fill(engine, 4)
    assert verify(engine).ok
    found = verify(engine, noted)
    assert not found.ok and f"the head {noted[:12]} isn't in the trail" == found.reason


def test_two_events_cannot_follow_the_same_one(engine):
    fill(engine, 2)
    with pytest.raises(IntegrityError), transaction(engine) as session:
        session.execute(
            text(
                "INSERT INTO audit_events SELECT 3, namespace, actor, run_id, client_order_id, kind, market_time, "
                "wall_time, payload, previous_hash, 'h' FROM audit_events WHERE sequence = 2"
            )
        )


# spelling

json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@modest
@given(st.dictionaries(st.text(), json_like, max_size=5))
def test_the_spelling_ignores_the_order_of_keys_and_reads_back(value):
    turned = dict(reversed(value.items()))
    assert canonical(value) == canonical(turned)
    assert json.loads(canonical(value)) == value
    assert canonical(value).isascii()


def test_numpy_and_dates_are_spelt_plainly():
    assert canonical([np.float64(0.5), np.int64(3), dt.date(2022, 12, 28)]) == '[0.5,3,"2022-12-28"]'


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), object(), {1, 2}, b"bytes", dt.datetime(2022, 1, 1)])
def test_what_json_cannot_say_is_refused(bad):
    with pytest.raises(StoreError):
        canonical({"x": bad})
