"""Least privilege as the roles themselves meet it: what each may do works, what it may not is refused by the server.

On plain PostgreSQL and on TimescaleDB; with the set-up before the first migration, and on a database that is in use already.
"""

import datetime as dt
import os
import shutil
import subprocess
import uuid
from pathlib import Path

import psycopg
import pytest
import servers
from psycopg import errors, sql
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, ProgrammingError

from mlt_lib.errors import StoreError
from mlt_lib.settings import Retention
from mlt_lib.store import audit, retention
from mlt_lib.store.database import open_database, transaction
from mlt_lib.store.schema import Record
from mlt_lib.store.tiers import drop_before, ensure_partitions, parts

SETUP = Path(__file__).parents[2] / "deploy/timescale/setup_database.sql"
SECRET = "l'etat-\"c'est\"-moi"  # quotes of both kinds
PASSWORDS = {f"MLT_{role}_PASSWORD": SECRET + role for role in ("MIGRATOR", "WRITER", "READER")}
NOW = dt.datetime(2022, 12, 28, 21, tzinfo=dt.UTC)


def set_up(url: str, passwords: dict[str, str] = PASSWORDS) -> str:
    "Run the file as an administrator would; what it said."
    psql = shutil.which("psql") or pytest.skip("no psql: install PostgreSQL's client")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLT_")} | passwords
    ended = subprocess.run([psql, "-X", "-d", url, "-f", SETUP], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    return ended.stdout


def as_role(url: str, role: str) -> str:
    "The same database as another role sees it."
    address = make_url(url).set(username=f"mlt_{role}", password=PASSWORDS[f"MLT_{role.upper()}_PASSWORD"])
    return address.render_as_string(hide_password=False)


def migrate(url: str) -> None:
    "Bring the tables to the head as whoever the address names."
    open_database(url).dispose()


@pytest.fixture(scope="module", params=["postgres", "timescale"])
def server(request):
    return getattr(servers, f"{request.param}_url")()


@pytest.fixture(scope="module", params=["set up first", "in use already"])
def database(request, server):
    "A database of its own: set up, migrated, and holding a row of history."
    name = f"roles_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    try:
        if request.param == "set up first":
            set_up(url)
            migrate(as_role(url, "migrator"))
        else:
            with psycopg.connect(url, autocommit=True) as admin:
                if admin.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone():
                    admin.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
            migrate(url)
            set_up(url)
        engine = open_database(as_role(url, "writer"))
        with transaction(engine) as session:
            audit.append(session, "test.began", {}, namespace="demo", actor="test")
        engine.dispose()
        yield url
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def connected(database):
    "A connection as a role; whatever it did is rolled back."
    opened = []

    def connect(role: str) -> psycopg.Connection:
        opened.append(psycopg.connect(as_role(database, role)))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.rollback()
        connection.close()


INSTRUMENT = "INSERT INTO instruments (symbol, name, currency, source) VALUES ('AAPL', 'Apple', 'USD', 'test')"
BAR = (
    "INSERT INTO bars (source, symbol, session, recorded_time, event_time, known_time, close) "
    "VALUES ('test', 'AAPL', '2022-12-28', '2022-12-28 21:00Z', '2022-12-28 21:00Z', '2022-12-28 21:00Z', 126)"
)
RUN = (
    "INSERT INTO runs (run_id, job, namespace, status, code_hash, data_hash, settings_hash, parameters, started) "
    "VALUES ('r', 'trade', 'demo', 'running', '', '', '', '{}', now())"
)


def test_the_writer_works(connected):
    writer = connected("writer")
    for statement in (
        *(INSTRUMENT, BAR, RUN),
        "UPDATE runs SET status = 'done', ended = now() WHERE run_id = 'r'",
        "DELETE FROM runs WHERE run_id = 'r'",
        "CREATE TEMPORARY TABLE incoming (LIKE bars) ON COMMIT DROP",
        "INSERT INTO bars SELECT source, symbol, session + 1, recorded_time, event_time, known_time, open, high, low, "
        "close, volume FROM bars",
    ):
        assert writer.execute(statement).rowcount in (1, -1), statement
    assert writer.execute("SELECT count(*) FROM bars").fetchone() == (2,)
    columns = "source, symbol, session, recorded_time, event_time, known_time, close"
    with writer.cursor().copy(f"COPY incoming ({columns}) FROM STDIN") as rows:
        rows.write_row(["test", "AAPL", NOW.date(), NOW, NOW, NOW, 126.0])
    assert writer.execute("SELECT close FROM incoming").fetchone() == (126.0,)


def test_the_writer_makes_the_partitions_its_rows_need_and_may_not_change_them(database):
    engine = open_database(as_role(database, "writer"))
    try:
        with engine.begin() as connection:
            ensure_partitions(connection, "bars", dt.date(2021, 1, 4), dt.date(2022, 12, 28))
            connection.exec_driver_sql(BAR)
            name = parts(connection, "bars")[-1].name
            name = f"_timescaledb_internal.{name}" if name.startswith("_hyper") else name
        with engine.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
            connection.exec_driver_sql(f"DELETE FROM {name}")
        with engine.connect() as connection, pytest.raises(DBAPIError, match="permission denied|must be owner"):
            drop_before(connection, "bars", dt.date(2023, 1, 1))
    finally:
        with psycopg.connect(as_role(database, "migrator"), autocommit=True) as migrator:
            migrator.execute("TRUNCATE bars")
        engine.dispose()


def test_letting_old_rows_go_is_the_migrators(database):
    "The writer hears which role may, and every row is still there."
    writer, migrator = (open_database(as_role(database, role)) for role in ("writer", "migrator"))
    now, count = dt.datetime(2022, 3, 1, tzinfo=dt.UTC), "SELECT count(*) FROM quotes"
    try:
        with writer.begin() as connection:
            ensure_partitions(connection, "quotes", dt.datetime(2022, 1, 3, tzinfo=dt.UTC), now)
            connection.exec_driver_sql(
                "INSERT INTO quotes (source, symbol, event_time, recorded_time, known_time, bid, ask) SELECT 'test', "
                "'AAPL', t, t, t, 1, 2 FROM generate_series('2022-01-03'::timestamptz, '2022-02-28', '1 day') AS t"
            )
        with pytest.raises(StoreError, match="setup_database.sql"):
            retention.apply(writer, Retention(), now)
        with writer.connect() as connection:
            assert connection.exec_driver_sql(count).scalar() == 57
        retention.apply(migrator, Retention(), now)
        with writer.connect() as connection:
            left = connection.exec_driver_sql("SELECT count(*), max(event_time) FROM quotes").one()
        assert 30 <= left[0] < 57 and left[1] == dt.datetime(2022, 2, 28, tzinfo=dt.UTC)
    finally:
        with migrator.begin() as connection:
            connection.exec_driver_sql("TRUNCATE quotes")
        writer.dispose()
        migrator.dispose()


def test_the_writer_adds_to_the_trail_and_the_trail_holds(database):
    engine = open_database(as_role(database, "writer"))
    try:
        with transaction(engine) as session:
            audit.append(session, "test.went.on", {"price": 1}, namespace="demo", actor="test", market_time=NOW)
        assert audit.verify(engine).ok
    finally:
        engine.dispose()


HISTORY = ("audit_events", "bars", "fills", "quarantine")
NOT_FOR_THE_WRITER = [
    *(f"{action} {table}" for table in HISTORY for action in ("DELETE FROM", "TRUNCATE", "DROP TABLE")),
    "UPDATE audit_events SET payload = '{}'",
    "UPDATE bars SET close = 1",
    "UPDATE fills SET price = '1'",
    "TRUNCATE runs",
    "TRUNCATE order_intents CASCADE",
    "DROP TABLE runs",
    "ALTER TABLE runs ADD COLUMN extra int",
    "ALTER TABLE bars DROP COLUMN volume",
    "ALTER TABLE audit_events DISABLE TRIGGER ALL",
    "DROP TRIGGER audit_events_append_only ON audit_events",
    "CREATE TRIGGER other BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()",
    "ALTER TABLE audit_events OWNER TO mlt_writer",
    "DROP FUNCTION refuse_audit_change() CASCADE",
    "CREATE RULE other AS ON INSERT TO audit_events DO INSTEAD NOTHING",
    "SET session_replication_role = replica",
    "UPDATE alembic_version SET version_num = '9999'",
    "UPDATE audit_tail SET sequence = 0",
    "DELETE FROM audit_tail",
    "CREATE TABLE mine (x int)",
    "CREATE SCHEMA mine",
    "CREATE INDEX mine ON bars (close)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SET ROLE mlt_migrator",
    "SET ROLE pg_read_all_data",
    "GRANT UPDATE ON audit_events TO mlt_writer; UPDATE audit_events SET payload = ''",
    "ALTER ROLE mlt_writer SUPERUSER",
    "ALTER ROLE mlt_reader PASSWORD 'x'",
    "CREATE ROLE other",
    "DROP EVENT TRIGGER keep_history_of_new_tables",
    "SELECT public.keep_history('audit_events')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY runs FROM '/etc/passwd'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT rolpassword FROM pg_authid",
    "ALTER SYSTEM SET fsync = off",
    "LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE",
]


KEPT = {
    "actions",
    "audit_events",
    "bars",
    "features",
    "fills",
    "fundamentals",
    "minute_bars",
    "news",
    "posts",
    "quarantine",
}
KEPT |= {"quotes"}  # history: rows are added
FOREIGN = {"alembic_version", "audit_tail"}  # the migrator's, and a trigger's


def test_every_table_gives_each_role_what_it_should_and_belongs_to_the_migrator(database):
    "Partitions, too: who may not change the whole may not change a part."
    query = """
        SELECT coalesce(pg_partition_root(oid), oid)::regclass::text, relowner::regrole::text, array_agg(what)
          FROM pg_class CROSS JOIN unnest(ARRAY['mlt_reader', 'mlt_writer']) AS role
         CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS what
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
           AND role = %s AND has_table_privilege(role, oid, what)
         GROUP BY oid, relowner ORDER BY 1"""
    with psycopg.connect(database) as admin:
        for table, owner, rights in admin.execute(query, ["mlt_writer"]):
            more = set() if table in KEPT | FOREIGN else {"UPDATE", "DELETE"}
            assert set(rights) == {"SELECT"} | more | (set() if table in FOREIGN else {"INSERT"}), table
            assert owner == "mlt_migrator", table
        assert all(set(rights) == {"SELECT"} for _, _, rights in admin.execute(query, ["mlt_reader"]))
        there = {name for (name,) in admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
        functions = admin.execute("SELECT proname FROM pg_proc WHERE proowner = 'mlt_migrator'::regrole").fetchall()
    assert KEPT | FOREIGN | {t.name for t in Record.metadata.tables.values()} <= there
    assert ("refuse_audit_change",) in functions and ("follow_audit_tail",) in functions


def test_what_the_writer_is_refused(connected):
    writer, let_through = connected("writer"), []
    for statement in NOT_FOR_THE_WRITER:
        writer.autocommit = statement.startswith("ALTER SYSTEM")  # can't run in a transaction
        try:
            writer.execute(statement)
            let_through.append(statement)
        except errors.InsufficientPrivilege:
            pass
        writer.rollback()
    assert let_through == []


def test_neither_may_the_writer_drop_the_database(connected, database):
    writer = connected("writer")
    writer.autocommit = True
    name = make_url(database).database
    for statement in ("DROP DATABASE {}", "ALTER DATABASE {} RENAME TO other"):
        with pytest.raises(errors.InsufficientPrivilege):
            writer.execute(sql.SQL(statement).format(sql.Identifier(name)))


def test_the_reader_reads_and_nothing_else(connected):
    reader = connected("reader")
    assert reader.execute("SELECT count(*) FROM audit_events").fetchone()[0] >= 1
    reader.execute("SELECT * FROM bars")
    for statement in (INSTRUMENT, RUN, "UPDATE runs SET status = 'done'", "DELETE FROM bars", "DROP TABLE runs"):
        with pytest.raises((errors.ReadOnlySqlTransaction, errors.InsufficientPrivilege)):
            reader.execute(statement)
        reader.rollback()
    for statement in (INSTRUMENT, RUN, "UPDATE runs SET status = 'done'", "CREATE TEMPORARY TABLE mine (x int)"):
        reader.execute("SET TRANSACTION READ WRITE")  # what keeps it from writing isn't its good will
        with pytest.raises(errors.InsufficientPrivilege):
            reader.execute(statement)
        reader.rollback()


def test_the_migrator_alters_and_drops_but_cannot_change_the_trail_either(connected):
    migrator = connected("migrator")
    migrator.execute("ALTER TABLE runs ADD COLUMN extra int")
    migrator.execute("TRUNCATE positions")
    migrator.execute("DROP TABLE positions")
    with pytest.raises(errors.RaiseException, match="append-only"):
        migrator.execute("DELETE FROM audit_events")
    migrator.rollback()
    with pytest.raises(errors.InsufficientPrivilege):
        migrator.execute("CREATE ROLE other")


def test_tables_that_come_later_follow(database):
    "State may be changed by the writer, history only added to, in partitions too."
    with psycopg.connect(as_role(database, "migrator"), autocommit=True) as migrator:
        migrator.execute("CREATE TABLE later (id serial PRIMARY KEY, x int)")
        migrator.execute("ALTER TABLE fills RENAME TO fills_away")
        migrator.execute("CREATE TABLE fills (day date NOT NULL, x int) PARTITION BY RANGE (day)")
        migrator.execute("CREATE TABLE fills_2022 PARTITION OF fills FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')")
        migrator.execute("CREATE TABLE fills_2023 (day date NOT NULL, x int)")
        migrator.execute(
            "ALTER TABLE fills ATTACH PARTITION fills_2023 FOR VALUES FROM ('2023-01-01') TO ('2024-01-01')"
        )
    try:
        with psycopg.connect(as_role(database, "writer"), autocommit=True) as writer:
            writer.execute("INSERT INTO later (x) VALUES (1)")
            writer.execute("UPDATE later SET x = 2")
            writer.execute("INSERT INTO fills VALUES ('2022-12-28', 1), ('2023-12-28', 1)")
            for table in ("fills", "fills_2022", "fills_2023"):
                with pytest.raises(errors.InsufficientPrivilege):
                    writer.execute(f"DELETE FROM {table}")
        with psycopg.connect(as_role(database, "reader"), autocommit=True) as reader:
            assert reader.execute("SELECT x FROM later").fetchone() == (2,)
    finally:
        with psycopg.connect(as_role(database, "migrator"), autocommit=True) as migrator:
            migrator.execute("DROP TABLE later, fills")
            migrator.execute("ALTER TABLE fills_away RENAME TO fills")


def test_chunks_of_a_hypertable_are_kept_too(database):
    with psycopg.connect(database, autocommit=True) as admin:
        if not admin.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone():
            pytest.skip("this server is plain PostgreSQL")
    with psycopg.connect(as_role(database, "migrator"), autocommit=True) as migrator:
        migrator.execute("ALTER TABLE quarantine RENAME TO quarantine_away")
        migrator.execute("CREATE TABLE quarantine (time timestamptz NOT NULL, x int)")
        migrator.execute("SELECT create_hypertable('quarantine', by_range('time', INTERVAL '1 day'))")
    try:
        with psycopg.connect(as_role(database, "writer"), autocommit=True) as writer:
            writer.execute("INSERT INTO quarantine SELECT now() - n * INTERVAL '1 day', n FROM generate_series(0, 5) n")
            (chunk,) = writer.execute("SELECT show_chunks('quarantine')::text LIMIT 1").fetchone()
            for statement in (
                *("DELETE FROM quarantine", f"DELETE FROM {chunk}", f"DROP TABLE {chunk}"),
                *("SELECT drop_chunks('quarantine', now())", "TRUNCATE quarantine"),
            ):
                with pytest.raises(psycopg.Error) as refused:
                    writer.execute(statement)
                assert refused.value.sqlstate == "42501", statement
        with psycopg.connect(as_role(database, "migrator"), autocommit=True) as migrator:
            gone = migrator.execute("SELECT drop_chunks('quarantine', now() - INTERVAL '2 days')").fetchall()
            assert len(gone) >= 2
    finally:
        with psycopg.connect(as_role(database, "migrator"), autocommit=True) as migrator:
            migrator.execute("DROP TABLE quarantine")
            migrator.execute("ALTER TABLE quarantine_away RENAME TO quarantine")


def test_running_it_again_changes_nothing(database):
    query = (
        "SELECT relname, relowner::regrole::text, acl::text FROM pg_class LEFT JOIN unnest(relacl) acl ON true "
        "WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 3"
    )
    with psycopg.connect(database, autocommit=True) as admin:
        before = admin.execute(query).fetchall()
        said = set_up(database, {})
        assert admin.execute(query).fetchall() == before
        assert "mlt_writer" in said and SECRET not in said
        kept = admin.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname ~ '^mlt_(reader|writer|migrator)$'"
        ).fetchall()
    assert len(kept) == 3 and all(password.startswith("SCRAM-SHA-256$") for (password,) in kept)


def test_no_password_stands_in_the_file_and_none_in_what_the_server_can_show(database):
    assert "PASSWORD '" not in SETUP.read_text()
    with psycopg.connect(database) as admin:
        shown = admin.execute("SELECT string_agg(query, ' ') FROM pg_stat_activity").fetchone()[0]
    assert "moi" not in shown
