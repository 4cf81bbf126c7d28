"The tables: what the migrations build is what the models say, on every server, and no row is lost on the way."

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from mlt_lib.errors import StoreError
from mlt_lib.store.database import make_engine, migrate, migrations_folder, open_database, revisions
from mlt_lib.store.schema import SERIES, Record
from mlt_lib.store.tiers import parts, tier

ROOT = Path(__file__).parents[2]
OURS = set(Record.metadata.tables)
T = "2022-01-03T21:00:00.000000Z"
BEFORE = (  # a row of each kind in a database of revision 0001
    "INSERT INTO instruments VALUES ('KO', 'Coca-Cola', 'USD', 'sample', 'a note')",
    *(
        f"INSERT INTO bars VALUES ('sample', 'KO', '{year}-01-03', '{T}', '{T}', '{T}', NULL, NULL, NULL, {year / 100}, NULL)"
        for year in range(1990, 2023)
    ),
    f"INSERT INTO bars VALUES ('sample', 'KO', '2022-01-03', '2022-01-04T21:00:00.000000Z', '{T}', '{T}', 1, 2, 1, 2, 0)",
    f"INSERT INTO quarantine VALUES (7, 'sample', 'KO', '2022-01-04', 'close', NULL, 'missing', 'why', '{T}', 'r1')",
    "INSERT INTO runs VALUES "
    f"('r1', 'ingest', 'demo', '2022-01-03', 'done', 'c', 'd', 's', '{{}}', '{T}', NULL, NULL, NULL, NULL)",
    "INSERT INTO order_intents VALUES ('o1', 'demo', 'a', 's', '2022-01-03', 'KO', 0, 0, 'buy', '12', 'market', 'cls', NULL, "
    f"'59.30', 0, 0.1, 'h', 'FILLED', 1, NULL, 'b1', '12', '{T}', '{T}', '{T}')",
    f"INSERT INTO fills VALUES ('f1', 'demo', 'o1', 'KO', 'buy', '12', '59.30', '2022-01-03', '{T}', '{T}')",
    f"INSERT INTO audit_events VALUES (1, 'demo', 'test', NULL, 'o1', 'order', NULL, '{T}', '{{}}', 'zero', 'one')",
)


def at_first(url, *statements):
    "An engine on a database of revision 0001 with some rows."
    engine = make_engine(url)
    if engine.dialect.name == "sqlite":
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    with engine.execution_options(writes=True).begin() as connection:
        from alembic import command
        from alembic.config import Config

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(migrations_folder()))
        command.upgrade(config, "0001")
        for statement in statements:
            connection.execute(text(statement))
    return engine


def rows_of(engine) -> dict[str, list]:
    "Every row of every table that both revisions have, by column name."
    with engine.connect() as connection:
        tables = OURS & set(inspect(engine).get_table_names())
        return {
            t: sorted((dict(r) for r in connection.execute(text(f"SELECT * FROM {t}")).mappings()), key=str)
            for t in tables
        }


def ours(_object, name, kind, _reflected, _other) -> bool:
    "Parts of a table and the tail's memory are the server's business, not the models'."
    return kind != "table" or name in OURS


# the same tables everywhere


def test_the_models_are_what_the_migrations_build(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_server_default": True})
        assert compare_metadata(context, Record.metadata) == []


def shape(engine, tables):
    "What alembic's comparison leaves out: keys, checks, uniqueness, nullability and the options of a table."
    found, kinds = inspect(engine), {}
    if engine.dialect.name == "sqlite":
        with engine.connect() as made:
            kinds = dict(made.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'table'")).all())
    every = {
        what: getattr(found, f"get_multi_{what}")()
        for what in ("columns", "pk_constraint", "foreign_keys", "unique_constraints", "indexes", "check_constraints")
    }

    def of(table, what):
        return every[what][None, table]

    return {
        t: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in of(t, "columns")],
            (of(t, "pk_constraint")["name"], of(t, "pk_constraint")["constrained_columns"]),
            sorted(map(str, of(t, "foreign_keys"))),
            sorted(map(str, of(t, "unique_constraints"))),
            sorted((i["name"], i["column_names"], i["unique"]) for i in of(t, "indexes")),
            sorted((c["name"], " ".join(c["sqltext"].split())) for c in of(t, "check_constraints")),
            "WITHOUT ROWID" in kinds.get(t, ""),
            "AUTOINCREMENT" in kinds.get(t, ""),
        )
        for t in tables
    }


def test_constraints_and_options_agree_too(engine, blank_url):
    modelled = make_engine(blank_url)
    if modelled.dialect.name == "sqlite":
        Path(modelled.url.database).parent.mkdir(parents=True)
    Record.metadata.create_all(modelled)
    migrated, expected = shape(engine, OURS), shape(modelled, OURS)
    modelled.dispose()
    for table in expected:
        assert migrated[table] == expected[table], table


def test_there_is_nothing_beside_them(engine):
    tables = set(inspect(engine).get_table_names()) - {"alembic_version", "audit_tail"}
    with engine.connect() as connection:
        partitions = {p.name for s in SERIES for p in parts(connection, s.table) if tier(connection) == "plain"}
    assert tables - partitions - {f"{s.table}_default" for s in SERIES} == OURS


def test_the_tables_that_grow_are_cut_as_the_models_say(engine):
    with engine.connect() as connection:
        kind = tier(connection)
        if kind == "sqlite":
            pytest.skip("a file isn't cut")
        if kind == "plain":
            query = "SELECT relname, pg_get_partkeydef(oid) FROM pg_class WHERE relkind = 'p'"
            assert dict(connection.execute(text(query)).all()) == {s.table: f"RANGE ({s.column})" for s in SERIES}
        else:
            query = "SELECT hypertable_name, column_name, time_interval FROM timescaledb_information.dimensions"
            told = {name: (column, span.days) for name, column, span in connection.execute(text(query))}
            days = {"year": 360, "month": 30, "week": 7}
            assert told == {s.table: (s.column, days[s.span]) for s in SERIES}


def test_the_head_is_alembics_head():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    script = ScriptDirectory.from_config(config)
    assert script.get_current_head() == revisions()[-1]
    assert [r.revision for r in script.walk_revisions()][::-1] == list(revisions())


# numbers that are none

BAR = "INSERT INTO bars VALUES ('s', 'KO', '2022-01-03', '{t}', '{t}', '{t}', {open}, NULL, NULL, {close}, {volume})"
BAD = {"NaN": "'NaN'", "infinity": "'Infinity'", "zero": "0", "negative": "-1"}


@pytest.mark.parametrize("field", ["open", "close", "volume"])
@pytest.mark.parametrize("value", BAD)
def test_what_is_no_price_or_amount_is_refused(engine, field, value):
    if field == "volume" and value == "zero":
        pytest.skip("nobody need trade")
    spelt = (
        {"NaN": "'NaN'", "infinity": "9e999"}.get(value, BAD[value]) if engine.dialect.name == "sqlite" else BAD[value]
    )
    statement = BAR.format(t=T, **({"open": "1", "close": "1", "volume": "1"} | {field: spelt}))
    with pytest.raises(IntegrityError, match="ck_bars"), engine.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize("value", ["'NaN'", "'Infinity'", "'-Infinity'"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO actions VALUES ('s', 'KO', '2022-01-03', 'split', '{t}', '{t}', '{t}', {value})",
        "INSERT INTO minute_bars VALUES ('s', 'KO', '{t}', '{t}', '{t}', 1, {value}, 1, 1, 1)",
        "INSERT INTO quotes VALUES ('s', 'KO', '{t}', '{t}', '{t}', 1, 1, {value}, 1)",
        "INSERT INTO quotes VALUES ('s', 'KO', '{t}', '{t}', '{t}', 1, {value}, 1, 1)",
        "INSERT INTO fundamentals VALUES ('s', 'KO', 'book', '2022-01-03', '{t}', '{t}', '{t}', {value})",
        "INSERT INTO features VALUES ('f', 1, 'KO', '2022-01-03', '{t}', '{t}', '{t}', {value})",
        "INSERT INTO quarantine (id, source, symbol, session, field, value, rule, detail, recorded_time) "
        "VALUES (1, 's', 'KO', '2022-01-03', 'close', {value}, 'r', 'd', '{t}')",
    ],
    ids=["actions", "minute_bars", "quotes", "sizes", "fundamentals", "features", "quarantine"],
)
def test_no_nan_and_no_infinity_anywhere(engine, statement, value):
    with pytest.raises(IntegrityError, match="ck_"), engine.begin() as connection:
        connection.execute(text(statement.format(t=T, value=value)))


def test_a_withdrawn_bar_has_nothing_at_all(engine):
    with engine.begin() as connection:
        connection.execute(text(BAR.format(t=T, open="NULL", close="NULL", volume="NULL")))
    with pytest.raises(IntegrityError, match="withdrawn"), engine.begin() as connection:
        connection.execute(text(BAR.format(t=T.replace("21", "22"), open="1", close="NULL", volume="NULL")))


# from revision to revision


def test_an_upgrade_keeps_every_row(blank_url):
    first = at_first(blank_url, *BEFORE)
    before = rows_of(first)
    first.dispose()
    engine = open_database(blank_url)
    after = rows_of(engine)
    for table, rows in before.items():
        kept = [{k: row[k] for k in rows[0]} for row in after[table]] if rows else after[table]
        assert sorted(kept, key=str) == rows, table
    assert len(after["bars"]) == 34 and after["quarantine"][0]["outcome"] == "quarantine"
    with engine.connect() as connection:
        held = parts(connection, "bars")  # none on SQLite; TimescaleDB's year has 360 days
        assert tier(connection) == "sqlite" or len(held) >= 33 and held[0].first.year <= 1990
        if tier(connection) == "plain":
            assert connection.scalar(text("SELECT count(*) FROM bars_default")) == 0
        if engine.dialect.name == "postgresql":
            assert connection.scalar(text("SELECT sequence FROM audit_tail")) == 1
    engine.dispose()


def test_an_old_bar_that_is_none_stops_the_upgrade_and_stays(blank_url):
    first = at_first(blank_url, *BEFORE, BEFORE[1].replace("1990-01-03", "1989-01-03").replace("19.9", "-19.9"))
    first.dispose()
    with pytest.raises(StoreError, match=r"no price|price or volume that is none: source 'sample', KO, 1989-01-03"):
        open_database(blank_url)
    engine = make_engine(blank_url)
    assert len(rows_of(engine)["bars"]) == 35 and "actions" not in inspect(engine).get_table_names()
    engine.dispose()


def test_down_to_the_first_tables_and_up_again(blank_url):
    at_first(blank_url, *BEFORE).dispose()
    engine = open_database(blank_url)
    there = rows_of(engine)
    migrate(engine, migrations_folder(), "0001")
    assert "fk_bars_symbol_instruments" in [k["name"] for k in inspect(engine).get_foreign_keys("bars")]
    assert not {"actions", "audit_tail", "bars_default"} & set(inspect(engine).get_table_names())
    migrate(engine, migrations_folder())
    assert rows_of(engine) == there
    engine.dispose()


LOSSES = {
    "posts": f"INSERT INTO posts VALUES ('s', '1', '{T}', '{T}', '{T}', 'title', NULL, NULL, NULL, '[]', '{{}}')",
    "withdrawals in bars": BAR.format(t=T, open="NULL", close="NULL", volume="NULL").replace("'KO'", "'KO'"),
    "bars of symbols without an instrument": BAR.format(t=T, open="1", close="1", volume="1").replace("KO", "PEP"),
    "rejections": "INSERT INTO quarantine (id, source, symbol, session, field, rule, detail, recorded_time, outcome) "
    f"VALUES (1, 's', 'KO', '2022-01-03', 'close', 'r', 'd', '{T}', 'reject')",
    "what is known of instruments": "UPDATE instruments SET status = 'delisted'",
}


@pytest.mark.parametrize("lost", LOSSES)
def test_a_downgrade_that_would_lose_something_refuses(engine, lost):
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO instruments (symbol, name, currency, source) VALUES ('KO', 'K', 'USD', 's')")
        )
        connection.execute(text(LOSSES[lost]))
    there = rows_of(engine)
    with pytest.raises(StoreError, match=f"back to revision 0001 would lose {lost}.*; nothing was changed"):
        migrate(engine, migrations_folder(), "0001")
    assert rows_of(engine) == there


def test_before_the_first_tables_there_must_be_nothing(blank_url):
    engine = at_first(blank_url, *BEFORE)
    with pytest.raises(StoreError, match="would lose .*audit_events.*; nothing was changed"):
        migrate(engine, migrations_folder(), "base")
    assert len(rows_of(engine)["bars"]) == 34
    engine.dispose()


def test_an_empty_database_may_go_all_the_way_down(new_url):
    engine = open_database(new_url)
    migrate(engine, migrations_folder(), "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    engine = open_database(new_url)
    assert set(inspect(engine).get_table_names()) > OURS
    engine.dispose()


def test_a_revision_that_there_is_not(engine):
    with pytest.raises(StoreError, match="there is no revision '0007'; these are: base, 0001, 0002"):
        migrate(engine, migrations_folder(), "0007")


def test_a_newer_revision_is_refused_untouched(new_url):
    engine = open_database(new_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    engine.dispose()
    with pytest.raises(StoreError, match=r"made by a newer version \(revision 0099\); upgrade mlt_lib or choose"):
        open_database(new_url)


def test_somebody_elses_database_is_refused_untouched(blank_url):
    engine = make_engine(blank_url)
    if engine.dialect.name == "sqlite":
        Path(engine.url.database).parent.mkdir(parents=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE guests (name TEXT)"))
    engine.dispose()
    with pytest.raises(StoreError, match="isn't the desk's: it holds guests and no revision"):
        open_database(blank_url)
    engine = make_engine(blank_url)
    assert inspect(engine).get_table_names() == ["guests"]
    engine.dispose()


@pytest.mark.process
def test_several_processes_open_a_new_database_at_once(blank_url):
    code = f"from mlt_lib.store.database import open_database as o; o({blank_url!r}).dispose(); print('ok')"
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    told = [p.communicate(timeout=60) for p in crowd]
    assert [out for out, _ in told] == ["ok\n"] * 2, told


# TimescaleDB under its own licence, which can't be run here


def second():
    spec = importlib.util.spec_from_file_location("second", next((migrations_folder() / "versions").glob("0002_*.py")))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("server", ["timescale"], indirect=True)
def test_every_licensed_call_is_known_to_the_catalog(engine):
    "A name that is wrong is unknown; a right one meets the licence."
    calls = [
        *second().POLICIES,
        "SELECT add_retention_policy('quotes', drop_after => make_interval(days => 30))",
        "SELECT remove_retention_policy('quotes', if_exists => true)",
    ]
    for call in calls:
        with pytest.raises(DBAPIError) as refused, engine.begin() as connection:
            connection.execute(text(call.replace("'quotes_hourly'", "'quotes'")))  # which can't be made here
        assert refused.value.orig.sqlstate == "0A000" and "apache" in str(refused.value), call
    with pytest.raises(DBAPIError, match="does not exist"), engine.begin() as connection:
        connection.execute(text("CALL add_columnstore_polices('quotes', after => INTERVAL '1 day')"))


@pytest.mark.parametrize("server", ["timescale"], indirect=True)
def test_a_role_that_may_not_make_the_extension_gets_partitions(databases, server, blank_url):
    "Trusted extensions need the right to create in the database."
    name, role = blank_url.rsplit("/", 1)[1], f"mlt_test_plain_{os.getpid()}"
    databases.admin(
        server,
        f"CREATE ROLE {role} LOGIN",
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {name} TO {role}",
    )
    owner = make_engine(blank_url)
    with owner.begin() as connection:
        connection.execute(text(f"GRANT ALL ON SCHEMA public TO {role}"))
    owner.dispose()
    engine = open_database(blank_url.replace("quant@", f"{role}@"))
    with engine.connect() as connection:
        assert tier(connection) == "plain"
    engine.dispose()
    databases.blank(server)
    databases.admin(server, f"REVOKE ALL ON DATABASE {name} FROM {role}", f"DROP ROLE {role}")
