"What only a server has: addresses, roles, time limits, turns by name, one moment to read, and faults that pass."

import datetime as dt
import socket
import threading
import time

import pandas as pd
import psycopg
import pytest
import servers
from sqlalchemy import func, make_url, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from mlt_lib.errors import StoreError
from mlt_lib.store.connections import make_engine, ready, server_arguments
from mlt_lib.store.database import open_database, retried, snapshot, take_turn, transaction
from mlt_lib.store.remedies import explained, named, passing, remedy
from mlt_lib.store.schema import SERIES, Instrument, Quote
from mlt_lib.store.tiers import Part, drop_before, ensure_partitions, keep_for, make_parts, parts, tier

on_servers = pytest.mark.parametrize("server", ["postgres", "timescale"], indirect=True)
on_plain = pytest.mark.parametrize("server", ["postgres"], indirect=True)
UTC = dt.UTC


@pytest.fixture
def url(blank_url):
    return make_url(blank_url)


def count(engine) -> int:
    with snapshot(engine) as session:
        return session.scalar(select(func.count()).select_from(Instrument))


def add(symbol):
    "Work that may be done twice."

    def work(session):
        if session.get(Instrument, symbol) is None:
            session.add(Instrument(symbol=symbol, name=symbol, source="test"))
        return symbol

    return work


# addresses and limits


@on_servers
def test_a_connection_says_who_it_is_and_how_long_it_waits(engine):
    asked = {
        "application_name": "mlt",
        "statement_timeout": "10min",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "15min",
        "TimeZone": "UTC",
    }
    with engine.connect() as connection:
        assert {name: connection.scalar(text(f"SHOW {name}")) for name in asked} == asked


@on_plain
def test_what_the_address_says_goes_before(url):
    engine = make_engine(url.update_query_dict({"application_name": "lab", "options": "-c statement_timeout=7s"}))
    with engine.connect() as connection:
        assert [connection.scalar(text(f"SHOW {n}")) for n in ("application_name", "statement_timeout")] == [
            "lab",
            "7s",
        ]
    engine.dispose()
    assert "connect_timeout" not in server_arguments(make_url("postgresql://h/d?connect_timeout=3"), 5.0)


def test_one_engine_per_process_and_server(tmp_path):
    one, two = (make_engine("postgresql://desk@127.0.0.1:1/quant") for _ in range(2))
    assert one is two
    assert make_engine("postgresql://desk@127.0.0.1:1/other") is not one
    assert make_engine("postgresql://desk@127.0.0.1:1/quant", busy_seconds=1) is not one


def test_a_file_that_was_moved_away_gets_nothing_more(tmp_path):
    path = tmp_path / "desk.db"
    first = open_database(f"sqlite:///{path}")
    with transaction(first) as session:
        add("OLD")(session)
    for old in tmp_path.iterdir():
        old.rename(tmp_path / f"away-{old.name}")
    second = open_database(f"sqlite:///{path}")
    with transaction(second) as session:
        add("NEW")(session)
    with snapshot(second) as session:
        assert session.scalars(select(Instrument.symbol)).all() == ["NEW"]
    assert path.exists()
    first.dispose()
    second.dispose()


@on_servers
def test_every_wait_for_a_lock_has_an_end(url):
    holder, hasty = open_database(url), make_engine(url, busy_seconds=0.2)
    with transaction(holder):
        start = time.perf_counter()
        with pytest.raises(StoreError, match="is busy: another process .* Wait until"), transaction(hasty):
            pass
        assert 0.15 < time.perf_counter() - start < 5
    with transaction(hasty) as session:
        add("A")(session)
    assert count(holder) == 1
    holder.dispose()
    hasty.dispose()


# what a server refuses, in one line

REFUSALS = [
    ("SELECT * FROM instruments WHERE pg_sleep(5) IS NULL", "gave up on a statement that ran for too long"),
    ("SET default_transaction_read_only = on; COMMIT; BEGIN; CREATE TABLE t (a int)", "is read-only: a standby"),
    ("DO $$ BEGIN RAISE SQLSTATE '53100'; END $$", "can't grow: the disk is full"),
    ("DO $$ BEGIN RAISE SQLSTATE '53300'; END $$", "has no connection left"),
    ("DO $$ BEGIN RAISE SQLSTATE '57P03'; END $$", "is starting up or shutting down"),
    ("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$", "met another writer"),
    ("SELECT pg_terminate_backend(pg_backend_pid())", "broke the connection off"),
]


@on_plain
@pytest.mark.parametrize("statement, told", REFUSALS, ids=[t[:20] for _, t in REFUSALS])
def test_a_refusal_is_one_line(url, statement, told):
    engine = make_engine(url.update_query_dict({"options": "-c statement_timeout=100ms"}))
    with (
        pytest.raises(StoreError, match=told) as caught,
        explained(engine.url),
        engine.connect() as connection,
    ):
        connection.exec_driver_sql("CREATE TABLE instruments (symbol text)")
        connection.exec_driver_sql("INSERT INTO instruments VALUES ('A')")
        connection.exec_driver_sql(statement)
    assert "\n" not in str(caught.value)
    engine.dispose()


@on_plain
def test_who_may_not_is_told_so(url, databases):
    role = f"mlt_test_guest_{url.database[-8:]}"
    databases.admin("postgres", f"CREATE ROLE {role} LOGIN")
    guest = url.set(username=role)
    with pytest.raises(StoreError, match="doesn't allow this user to do that. Connect as the role that may"):
        open_database(guest)
    databases.admin("postgres", f"DROP ROLE {role}")
    with pytest.raises(StoreError, match="doesn't let this user in"):
        open_database(guest)
    with pytest.raises(StoreError, match="doesn't exist on that server. Make it with createdb"):
        open_database(url.set(database="mlt_nowhere"))


@pytest.mark.parametrize(
    "host, told", [("127.0.0.1:1", "doesn't answer. Start the server"), ("mlt.invalid", "can't be found")]
)
def test_nobody_there(host, told):
    with pytest.raises(StoreError, match=told) as caught:
        open_database(f"postgresql://desk:open-sesame@{host}/quant")
    assert "open-sesame" not in str(caught.value) and "***" in str(caught.value)


@pytest.mark.parametrize("answer", [b"N", b"E\x00\x00\x00", b""], ids=["no encryption", "half a message", "nothing"])
def test_a_port_where_something_else_listens(answer):
    "Never a hang, never a traceback of another kind than the driver's."
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            for _ in range(8):
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(8)
                    peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        start = time.perf_counter()
        with pytest.raises((StoreError, OperationalError)):
            open_database(f"postgresql://desk@127.0.0.1:{listener.getsockname()[1]}/quant?connect_timeout=3")
        assert time.perf_counter() - start < 10


def connecting(said):
    return OperationalError("", {}, psycopg.OperationalError(f"connection failed: FATAL:  {said}"))


@pytest.mark.parametrize(
    "said, told, again",
    [
        ('password authentication failed for user "desk"', "refuses the password", False),
        ("fe_sendauth: no password supplied", "asks for a password", False),
        ('no pg_hba.conf entry for host "10.0.0.1"', "doesn't let this user in", False),
        ("sorry, too many clients already", "has no connection left", True),
        ("remaining connection slots are reserved", "has no connection left", True),
        ("the database system is starting up", "is starting up", True),
        ("the database system is shutting down", "is starting up or shutting down", True),
    ],
)
def test_what_is_said_at_the_door(said, told, again):
    "As PostgreSQL words it; these can't be had from a server that trusts everybody."
    error = connecting(said)
    assert told in remedy(error).advice and passing(error) is again
    wrapped = StoreError("x")
    wrapped.__cause__ = error
    assert passing(wrapped) is again


def test_only_a_drivers_words_count():
    "A title that quotes a fault is no fault."
    assert remedy(ValueError("database is locked")) is None
    quoting = psycopg.errors.UniqueViolation("Key (title)=(server closed the connection unexpectedly) already exists.")
    assert remedy(quoting) is None and not passing(quoting)


def test_no_password_in_a_name():
    url = make_url("postgresql+psycopg://desk:open-sesame@db/quant?password=swordfish&sslpassword=abra")
    assert named(url).startswith("postgresql://desk:***@db/quant")
    assert not any(word in named(url) for word in ("sesame", "swordfish", "abra"))


# turns and moments


@on_servers
def test_who_says_another_word_need_not_wait(url):
    engine = open_database(url, busy_seconds=0.5)
    with transaction(engine, turn="bars alpaca") as slow:
        add("SLOW")(slow)
        with transaction(engine) as session:
            add("QUICK")(session)
        with pytest.raises(StoreError, match="is busy"), transaction(engine, turn="bars alpaca"):
            pass
    assert count(engine) == 2
    engine.dispose()


def test_a_turn_ends_with_its_transaction(engine):
    for word in ("desk", "bars alpaca", "bars alpaca"):
        with pytest.raises(RuntimeError), transaction(engine, turn=word):
            raise RuntimeError
    with transaction(engine) as session:
        take_turn(session, "audit")
        take_turn(session.connection(), "audit")


def test_a_snapshot_is_one_moment_and_writes_nothing(engine):
    with snapshot(engine) as reader:
        assert reader.scalar(select(func.count()).select_from(Instrument)) == 0
        with transaction(engine) as session:
            add("A")(session)
        assert reader.scalar(select(func.count()).select_from(Instrument)) == 0
        if engine.dialect.name == "postgresql":
            with pytest.raises(DBAPIError, match="read-only"):
                reader.execute(text("DELETE FROM instruments"))
    assert count(engine) == 1


def test_a_moment_comes_back_from_every_server(engine):
    told = dt.datetime(2022, 12, 28, 16, 0, 0, 123457, tzinfo=dt.timezone(dt.timedelta(hours=-5)))
    with transaction(engine) as session:
        session.add(Quote(source="s", symbol="KO", event_time=told, recorded_time=told, known_time=told))
    with snapshot(engine) as session:
        found = session.scalars(select(Quote.event_time)).one()
    assert found == told and found.utcoffset() == dt.timedelta(0)


@on_plain
def test_turns_hold_where_the_server_would_rather_serialise(url):
    "A role or a server may have another isolation as its default; whoever waited must see what was written meanwhile."
    engine = open_database(
        url.update_query_dict({"options": "-c default_transaction_isolation=serializable"}), busy_seconds=20
    )
    with transaction(engine) as session:
        session.add(Instrument(symbol="N", name="0", source="test"))

    def count_up():
        for _ in range(10):
            with transaction(engine) as session:
                row = session.get_one(Instrument, "N")
                row.name = str(int(row.name) + 1)

    threads = [threading.Thread(target=count_up) for _ in range(3)]
    [t.start() for t in threads]
    [t.join(60) for t in threads]
    with snapshot(engine) as session:
        assert session.get_one(Instrument, "N").name == "30"
    engine.dispose()


# faults that pass


@on_servers
def test_work_is_done_again_when_its_connection_breaks(engine):
    tried = []

    def work(session):
        add("A")(session)
        session.flush()
        if len(tried) < 2:
            tried.append(session.scalar(text("SELECT pg_backend_pid()")))
            with engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": tried[-1]})
            session.execute(text("SELECT 1"))
        return "done"

    assert retried(engine, work) == "done"
    assert len(set(tried)) == 2 and count(engine) == 1


@on_servers
def test_two_that_stop_each_other_both_get_through(engine):
    for name in ("A", "B"):
        retried(engine, add(name))
    met, attempts = threading.Barrier(2), []

    def swap(first, second):
        def work(session):
            attempts.append(first)
            session.get_one(Instrument, first, with_for_update=True).name += first
            session.flush()
            if attempts.count(first) == 1:
                met.wait(10)
            session.get_one(Instrument, second, with_for_update=True).name += first

        return lambda: retried(engine, work, turn=f"turn {first}")

    threads = [threading.Thread(target=swap("A", "B")), threading.Thread(target=swap("B", "A"))]
    [t.start() for t in threads]
    [t.join(30) for t in threads]
    with snapshot(engine) as session:
        names = [session.get_one(Instrument, n).name for n in ("A", "B")]
    assert [sorted(n) for n in names] == [list("AAB"), list("ABB")] and len(attempts) > 2


@on_servers
def test_serialisation_failures_are_tried_again(engine):
    retried(engine, add("N"))
    tried = []

    def work(session):
        tried.append(1)
        if len(tried) < 3:
            session.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))
        return len(tried)

    assert retried(engine, work) == 3


def test_what_does_not_pass_is_not_tried_again(engine):
    tried = []

    def work(session):
        tried.append(1)
        session.execute(text("SELECT * FROM nowhere"))

    with pytest.raises(DBAPIError, match="nowhere"):
        retried(engine, work)
    assert len(tried) == 1


def test_trying_again_has_an_end():
    engine, tried = make_engine("postgresql://desk@127.0.0.1:1/quant"), []
    start = time.perf_counter()
    with pytest.raises(StoreError, match="doesn't answer"):
        retried(engine, tried.append, seconds=0.5)
    assert time.perf_counter() - start < 5 and not tried
    with pytest.raises(StoreError, match="doesn't answer"):
        ready(engine, seconds=0.2)


@on_plain
def test_ready_waits_for_a_server_that_starts(server):
    "A gate that lets nobody through for a while stands before the real server."
    target = make_url(servers.postgres_url())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def pump(source, sink):
        while data := source.recv(65536):
            sink.sendall(data)

    def gate():
        time.sleep(0.5)
        with socket.create_server(("127.0.0.1", port)) as listener:
            peer, _ = listener.accept()
            real = socket.create_connection((target.host, target.port))
            threading.Thread(target=pump, args=(real, peer), daemon=True).start()
            pump(peer, real)
            real.close()

    thread = threading.Thread(target=gate, daemon=True)
    thread.start()
    engine = make_engine(target.set(host="127.0.0.1", port=port))
    assert 0.3 < ready(engine, seconds=20) < 20
    engine.dispose()
    thread.join(5)


def test_a_refusal_that_stays_is_told_at_once():
    url = make_url(servers.postgres_url()).set(database="mlt_nowhere")
    start = time.perf_counter()
    with pytest.raises(StoreError, match="doesn't exist on that server"):
        ready(make_engine(url), seconds=30)
    assert time.perf_counter() - start < 5


# parts of tables that grow


def quote(day: dt.datetime) -> Quote:
    return Quote(source="s", symbol="KO", event_time=day, recorded_time=day, known_time=day, bid=1.0, ask=1.1)


def days(engine) -> list[dt.date]:
    with snapshot(engine) as session:
        return sorted(day.date() for day in session.scalars(select(Quote.event_time)))


WEEKS = [dt.datetime(2022, 11, 30, 15, tzinfo=UTC) + dt.timedelta(weeks=n) for n in range(5)]


def test_old_rows_go_and_young_ones_stay(new_url):
    engine = open_database(new_url)
    with transaction(engine) as session:
        made = ensure_partitions(session.connection(), "quotes", WEEKS[0], WEEKS[-1])
        session.add_all([quote(day) for day in WEEKS])
    horizon = WEEKS[2]
    with transaction(engine) as session:
        connection = session.connection()
        kind, before = tier(connection), parts(connection, "quotes")
        assert made == (5 if kind == "plain" else 0) and len(before) == (0 if kind == "sqlite" else 5)
        assert all(a.end <= b.first for a, b in zip(before, before[1:], strict=False))
        gone = drop_before(connection, "quotes", horizon)
        assert len(gone) == len([p for p in before if p.end <= horizon]) or kind == "sqlite" and gone == [""]
        assert [p.first for p in parts(connection, "quotes")] == [p.first for p in before if p.end > horizon]
    assert days(engine)[-3:] == [d.date() for d in WEEKS[2:]] and len(days(engine)) <= 4
    with transaction(engine) as session:
        assert drop_before(session.connection(), "quotes", horizon) == []
    engine.dispose()


def test_rows_cut_by_session_too(new_url):
    engine = open_database(new_url)
    stamp = "2022-01-01T00:00:00.000000Z"
    with transaction(engine) as session:
        connection = session.connection()
        ensure_partitions(connection, "features", dt.date(2018, 5, 1), dt.date(2022, 12, 30))
        for year in (2018, 2020, 2022):
            row = f"('f', 1, 'KO', '{year}-06-01', '{stamp}', '{stamp}', '{stamp}', 1.5)"
            connection.execute(text(f"INSERT INTO features VALUES {row}"))
    with transaction(engine) as session:
        assert drop_before(session.connection(), "features", dt.date(2020, 6, 1))
    with snapshot(engine) as session:
        left = [str(d)[:4] for d in session.scalars(text("SELECT session FROM features ORDER BY session"))]
    assert left == ["2020", "2022"]
    engine.dispose()


@on_plain
def test_rows_that_came_before_their_partition_move_into_it(new_url):
    engine = open_database(new_url)
    with transaction(engine) as session:
        session.add_all([quote(day) for day in WEEKS])
    with transaction(engine) as session:
        assert ensure_partitions(session.connection(), "quotes", WEEKS[1], WEEKS[2]) == 2
        assert ensure_partitions(session.connection(), "quotes", WEEKS[1], WEEKS[2]) == 0
        lie = session.execute(text("SELECT tableoid::regclass::text, count(*) FROM quotes GROUP BY 1 ORDER BY 1"))
        assert dict(lie.all()) == {"quotes_20221205": 1, "quotes_20221212": 1, "quotes_default": 3}
    assert days(engine) == [d.date() for d in WEEKS]
    with transaction(engine) as session:
        assert drop_before(session.connection(), "quotes", WEEKS[4]) == ["quotes_20221205", "quotes_20221212", ""]
    assert days(engine) == [WEEKS[4].date()]
    engine.dispose()


@on_plain
def test_writers_that_want_the_same_partition_get_one(new_url):
    engine, made = open_database(new_url, busy_seconds=20), []

    def want():
        made.append(
            retried(
                engine,
                lambda s: ensure_partitions(s.connection(), "news", *WEEKS[::4]),
                turn=f"{threading.get_ident()}",
            )
        )

    threads = [threading.Thread(target=want) for _ in range(4)]
    [t.start() for t in threads]
    [t.join(30) for t in threads]
    assert sorted(made) == [0, 0, 0, 2]
    engine.dispose()


def test_a_horizon_in_whatever_way_it_is_told(new_url):
    "The day or the moment itself stays."
    engine = open_database(new_url)
    for table, row in (
        ("features", "'f', 1, 'KO', '2022-06-01', '{t}', '{t}', '{t}', 1"),
        ("quotes", "'s', 'KO', '{t}', '{t}', '{t}'"),
    ):
        with transaction(engine) as session:
            session.execute(
                text(
                    f"INSERT INTO {table} VALUES ({row.format(t='2022-06-01T00:00:00.000000Z')}{', 1' * 4 * (table == 'quotes')})"
                )
            )
        for horizon in (dt.date(2022, 6, 1), pd.Timestamp("2022-06-01", tz="UTC"), dt.datetime(2022, 6, 1, tzinfo=UTC)):
            with transaction(engine) as session:
                assert drop_before(session.connection(), table, horizon) == []
    with transaction(engine) as session, pytest.raises(StoreError, match="has no time zone"):
        drop_before(session.connection(), "quotes", dt.datetime(2022, 6, 1))
    engine.dispose()


@on_plain
def test_parts_are_made_once_the_reader_has_gone(new_url):
    engine, slow = open_database(new_url, busy_seconds=20), open_database(new_url)
    with snapshot(slow) as reader:
        reader.scalar(select(func.count()).select_from(Quote))
        thread = threading.Thread(target=make_parts, args=(engine, "quotes", WEEKS[0], WEEKS[-1]))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(20)
    with snapshot(engine) as session:
        assert len(parts(session.connection(), "quotes")) == 5
    assert make_parts(engine, "quotes", WEEKS[0], WEEKS[-1]) == 0
    engine.dispose()


@on_plain
@pytest.mark.parametrize(
    "first, last", [("-infinity", "2022-01-01"), ("2022-01-01", "infinity"), ("0001-01-01", "2022-01-01")]
)
def test_no_partitions_for_times_that_are_none(engine, first, last):
    with pytest.raises(DBAPIError, match="no times of a market"), transaction(engine) as session:
        session.execute(text("SELECT ensure_partitions('quotes', :first, :last)"), {"first": first, "last": last})


@on_plain
def test_a_function_that_makes_partitions_makes_nothing_else(engine):
    with pytest.raises(DBAPIError, match="table fills is not partitioned"), transaction(engine) as session:
        session.execute(text("SELECT ensure_partitions('fills', now(), now())"))
    with snapshot(engine) as session:
        query = "SELECT prosecdef, proconfig, has_function_privilege('public', oid, 'execute') FROM pg_proc WHERE proname = :n"
        definer, config, anybody = session.execute(text(query), {"n": "ensure_partitions"}).one()
    assert definer and any(c.startswith("search_path=") for c in config) and not anybody


def test_a_table_that_is_not_cut(engine):
    with transaction(engine) as session:
        for ask in (
            lambda c: parts(c, "fills"),
            lambda c: drop_before(c, "fills", WEEKS[0]),
            lambda c: ensure_partitions(c, "fills", WEEKS[0], WEEKS[0]),
            lambda c: keep_for(c, "fills", 3),
        ):
            with pytest.raises(StoreError, match="'fills' isn't cut by time; these are: bars"):
                ask(session.connection())
        assert not keep_for(session.connection(), "quotes", 30)


def test_every_series_can_be_asked_for_its_parts(engine):
    with snapshot(engine) as session:
        for series in SERIES:
            assert all(isinstance(p, Part) for p in parts(session.connection(), series.table))
