"""The pipeline's tables: actions, minutes, quotes, news, posts, fundamentals, features, and what goes with them.

Bars lose their foreign key (a question per row on the way in; the writers ask once per load), may be withdrawn by a row
without a close, and refuse what is no price. Every server gets the same tables; see `cut` for what differs.
This file is history: it repeats the columns rather than importing today's models, which will move on.
"""

import sqlalchemy as sa
from alembic import op

from mlt_lib.errors import StoreError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
# PostgreSQL calls NaN greater than every number: only an upper bound stops it
USD, UNITS, ANY = "1e12", "1e18", "1e300"
OHLC = ("open", "high", "low", "close")
STATUS = "status IN ('running', 'done', 'failed', 'interrupted')"
SPANS = {  # table: the time it is cut by, and how much of it one part holds
    "bars": ("session", "year"),
    "features": ("session", "year"),
    "minute_bars": ("event_time", "month"),
    "quotes": ("event_time", "week"),
    "news": ("event_time", "month"),
    "posts": ("event_time", "month"),
}
GRANT_TO_WRITER = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'mlt_writer') THEN
        GRANT EXECUTE ON FUNCTION {function} TO mlt_writer;
    END IF;
END $$"""
COLUMNSTORE = {  # table: rows that are read together, their order, and when they are packed
    "bars": ("source, symbol", "session, recorded_time", "800 days"),
    "features": ("feature, version, symbol", "session, recorded_time", "800 days"),
    "minute_bars": ("source, symbol", "event_time, recorded_time", "60 days"),
    "quotes": ("source, symbol", "event_time, recorded_time", "14 days"),
    "news": ("source", "item_id, event_time, recorded_time", "60 days"),
    "posts": ("source", "item_id, event_time, recorded_time", "60 days"),
}
POLICIES = (  # only under TimescaleDB's own licence; the horizons of retention are settings, set by the retention job
    *(
        f"ALTER TABLE {t} SET (timescaledb.enable_columnstore, "
        f"timescaledb.segmentby = '{by}', timescaledb.orderby = '{order}')"
        for t, (by, order, _) in COLUMNSTORE.items()
    ),
    *(f"CALL add_columnstore_policy('{t}', after => INTERVAL '{age}')" for t, (_, _, age) in COLUMNSTORE.items()),
    """
CREATE MATERIALIZED VIEW quotes_hourly WITH (timescaledb.continuous) AS
SELECT source, symbol, time_bucket(INTERVAL '1 hour', event_time) AS hour, count(*) AS quotes, avg(ask - bid) AS spread
  FROM quotes GROUP BY source, symbol, hour WITH NO DATA""",
    """
SELECT add_continuous_aggregate_policy('quotes_hourly', start_offset => INTERVAL '3 days', end_offset => INTERVAL '1 hour',
                                       schedule_interval => INTERVAL '1 hour')""",
)
NEW = (
    "actions",
    "minute_bars",
    "quotes",
    "news",
    "posts",
    "fundamentals",
    "features",
    "fetches",
    "model_runs",
    "dead_letters",
)


def upgrade() -> None:
    "Change what is there, then create the rest."
    server = choose()
    if server == "plain":
        make_partition_maker()
    widen()
    rebuild_bars(server)
    what_was_known(server)
    what_was_written(server)
    what_was_computed(server)
    what_was_run_and_put_aside()
    if op.get_context().dialect.name == "postgresql":
        remember_the_tail()
    if server == "licensed":
        for statement in POLICIES:
            op.execute(statement)


# What the server can do


def choose() -> str:
    "sqlite, plain (PostgreSQL), apache or licensed (TimescaleDB); the extension is made where the server has it loaded."
    if op.get_context().dialect.name == "sqlite":
        return "sqlite"
    bind = op.get_bind()
    installed = sa.text("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
    if not bind.scalar(installed) and bind.scalar(sa.text("SELECT current_setting('timescaledb.disable_load', true)")):
        try:
            with bind.begin_nested():
                op.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        except sa.exc.ProgrammingError:  # this role may not: plain partitions do as well
            pass
    if not bind.scalar(installed):
        return "plain"
    return (
        "licensed" if bind.scalar(sa.text("SELECT current_setting('timescaledb.license')")) == "timescale" else "apache"
    )


def partitioned(server: str, column: str) -> dict[str, str]:
    "What plain PostgreSQL must be told when a table is created."
    return {"postgresql_partition_by": f"RANGE ({column})"} if server == "plain" else {}


def cut(server: str, table: str) -> None:
    "Let a server that can do so keep a table in spans of time; all rows before the first span are caught, too."
    column, span = SPANS[table]
    if server == "plain":
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
    elif server != "sqlite":
        op.execute(
            f"SELECT create_hypertable('{table}', by_range('{column}', INTERVAL '1 {span}'), create_default_indexes => FALSE)"
        )


def make_partition_maker() -> None:
    """A function that whoever may call it can make partitions with, and nothing else: it runs with its owner's rights.

    Rows that the default partition has caught meanwhile move to where they belong.
    """
    cases = "\n".join(f"        WHEN '{t}' THEN cut := '{c}'; unit := '{u}';" for t, (c, u) in SPANS.items())
    op.execute(f"""
CREATE FUNCTION ensure_partitions(series text, first timestamptz, last timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET TimeZone = 'UTC' AS $$
DECLARE
    cut text; unit text; part text; low timestamp; high timestamp; made integer := 0;
BEGIN
    CASE series
{cases}
        ELSE RAISE EXCEPTION 'table % is not partitioned', series;
    END CASE;
    IF NOT (first >= '1700-01-01' AND last < '2200-01-01') THEN
        RAISE EXCEPTION 'no partitions of % from % to %: these are no times of a market', series, first, last;
    END IF;
    low := date_trunc(unit, first::timestamp);
    WHILE low <= last::timestamp LOOP
        high := low + ('1 ' || unit)::interval;
        part := series || '_' || to_char(low, 'YYYYMMDD');
        IF to_regclass(format('%I', part)) IS NULL THEN
            PERFORM pg_advisory_xact_lock(7171188, hashtext('partitions of ' || series));  -- made once, whoever asks
            EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', series || '_default');
            IF to_regclass(format('%I', part)) IS NULL THEN
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, series);
                EXECUTE format('WITH caught AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *) '
                               'INSERT INTO %I SELECT * FROM caught', series || '_default', cut, low, cut, high, part);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', series, part, low, high);
                made := made + 1;
            END IF;
        END IF;
        low := high;
    END LOOP;
    RETURN made;
END $$""")
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    function = "ensure_partitions(text, timestamptz, timestamptz)"
    op.execute(f"ALTER FUNCTION {function} SET search_path = {schema}, pg_catalog, pg_temp")
    op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    op.execute(GRANT_TO_WRITER.format(function=function))


def remember_the_tail() -> None:
    "How far the trail has ever come, so that a tail that was cut off shows; SQLite's AUTOINCREMENT remembers by itself."
    op.execute("CREATE TABLE audit_tail (one boolean PRIMARY KEY DEFAULT true CHECK (one), sequence integer NOT NULL)")
    op.execute("INSERT INTO audit_tail (sequence) SELECT coalesce(max(sequence), 0) FROM audit_events")
    op.execute("""
CREATE FUNCTION follow_audit_tail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE audit_tail SET sequence = NEW.sequence WHERE sequence < NEW.sequence;
    RETURN NULL;
END $$""")
    op.execute("""
CREATE FUNCTION refuse_audit_tail_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'UPDATE' OR pg_trigger_depth() < 2 THEN RAISE EXCEPTION 'the tail follows the audit events by itself'; END IF;
    RETURN NULL;
END $$""")
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(f"ALTER FUNCTION follow_audit_tail() SET search_path = {schema}, pg_catalog, pg_temp")
    op.execute(
        "CREATE TRIGGER audit_events_tail AFTER INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION follow_audit_tail()"
    )
    op.execute(
        "CREATE TRIGGER audit_tail_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON audit_tail "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_tail_change()"
    )


# The tables


def text(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=nullable)


def day(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Date(), nullable=nullable)


def moment(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, TIME, nullable=nullable)


def numbers(*names: str) -> list[sa.Column]:
    return [sa.Column(name, sa.Double()) for name in names]


def check(table: str, name: str, rule: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(rule, name=op.f(f"ck_{table}_{name}"))


def prices(table: str, *columns: str, name: str = "prices") -> sa.CheckConstraint:
    return check(table, name, " AND ".join(f"{c} > 0 AND {c} < {USD}" for c in columns))


def amounts(table: str, *columns: str) -> sa.CheckConstraint:
    return check(table, "amounts", " AND ".join(f"{c} >= 0 AND {c} < {UNITS}" for c in columns))


def finite(table: str, column: str) -> sa.CheckConstraint:
    return check(table, "finite", f"{column} > -{ANY} AND {column} < {ANY}")


def withdrawn(table: str) -> sa.CheckConstraint:
    rest = " AND ".join(f"{c} IS NULL" for c in ("open", "high", "low", "volume"))
    return check(table, "withdrawn", f"close IS NOT NULL OR ({rest})")


def key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def widen() -> None:
    "instruments, quarantine"
    with op.batch_alter_table("instruments") as table:
        for column in (
            day("first_session", True),
            day("last_session", True),
            text("exchange", True),
            text("status", True),
        ):
            table.add_column(column)
        table.create_check_constraint(op.f("ck_instruments_status"), "status IN ('active', 'delisted', 'unknown')")
    with op.batch_alter_table("quarantine") as table:
        table.add_column(sa.Column("outcome", sa.Text(), nullable=False, server_default="quarantine"))
        table.add_column(moment("stamp", True))
        table.create_check_constraint(op.f("ck_quarantine_outcome"), "outcome IN ('quarantine', 'reject')")
        table.create_check_constraint(op.f("ck_quarantine_finite"), f"value > -{ANY} AND value < {ANY}")


def bars(server: str) -> None:
    "The table of bars as it is from here on."
    op.create_table(
        "bars",
        *(text("source"), text("symbol"), day("session")),
        *(moment("recorded_time"), moment("event_time"), moment("known_time")),
        *numbers(*OHLC, "volume"),
        key("bars", "source", "symbol", "session", "recorded_time"),
        *(prices("bars", *OHLC), amounts("bars", "volume"), withdrawn("bars")),
        sqlite_with_rowid=False,
        **partitioned(server, "session"),
    )
    cut(server, "bars")


def rebuild_bars(server: str) -> None:
    "bars, with every row that was in it"
    refuse_impossible_bars()
    names = ", ".join(("source", "symbol", "session", "recorded_time", "event_time", "known_time", *OHLC, "volume"))
    op.rename_table("bars", "bars_before")
    if op.get_context().dialect.name == "postgresql":  # names of keys are shared there
        op.execute("ALTER TABLE bars_before RENAME CONSTRAINT pk_bars TO pk_bars_before")
    bars(server)
    if server == "plain":
        op.execute("SELECT ensure_partitions('bars', min(session), max(session)) FROM bars_before HAVING count(*) > 0")
    op.execute(f"INSERT INTO bars ({names}) SELECT {names} FROM bars_before")
    op.drop_table("bars_before")


def refuse_impossible_bars() -> None:
    "Say which old bar can't be kept, rather than break in the middle; none is dropped."
    possible = " AND ".join(f"coalesce({c} > 0 AND {c} < {USD}, true)" for c in OHLC)
    possible += f" AND coalesce(volume >= 0 AND volume < {UNITS}, true)"
    if (
        row := op.get_bind()
        .execute(sa.text(f"SELECT source, symbol, session FROM bars WHERE NOT ({possible})"))
        .first()
    ):
        raise StoreError(
            f"table bars holds a price or volume that is none: source {row[0]!r}, {row[1]}, {row[2]}. "
            f"Correct or remove that row, then run again; nothing was changed."
        )


def what_was_known(server: str) -> None:
    "actions, minute_bars, quotes, fundamentals"
    op.create_table(
        "actions",
        *(text("source"), text("symbol"), day("session"), text("kind")),
        *(moment("recorded_time"), moment("event_time"), moment("known_time")),
        *numbers("value"),
        key("actions", "source", "symbol", "session", "kind", "recorded_time"),
        check("actions", "kind", "kind IN ('split', 'dividend')"),
        prices("actions", "value", name="value"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "minute_bars",
        *(text("source"), text("symbol"), moment("event_time"), moment("recorded_time"), moment("known_time")),
        *numbers(*OHLC, "volume"),
        key("minute_bars", "source", "symbol", "event_time", "recorded_time"),
        *(prices("minute_bars", *OHLC), amounts("minute_bars", "volume"), withdrawn("minute_bars")),
        sqlite_with_rowid=False,
        **partitioned(server, "event_time"),
    )
    cut(server, "minute_bars")
    op.create_table(
        "quotes",
        *(text("source"), text("symbol"), moment("event_time"), moment("recorded_time"), moment("known_time")),
        *numbers("bid", "bid_size", "ask", "ask_size"),
        key("quotes", "source", "symbol", "event_time", "recorded_time"),
        *(prices("quotes", "bid", "ask"), amounts("quotes", "bid_size", "ask_size")),
        sqlite_with_rowid=False,
        **partitioned(server, "event_time"),
    )
    cut(server, "quotes")
    op.create_table(
        "fundamentals",
        *(text("source"), text("symbol"), text("item"), day("period_end")),
        *(moment("recorded_time"), moment("event_time"), moment("known_time")),
        *numbers("value"),
        key("fundamentals", "source", "symbol", "item", "period_end", "recorded_time"),
        finite("fundamentals", "value"),
        sqlite_with_rowid=False,
    )


def what_was_written(server: str) -> None:
    "news, posts"
    for table in ("news", "posts"):
        op.create_table(
            table,
            *(text("source"), text("item_id"), moment("event_time"), moment("recorded_time"), moment("known_time")),
            *(text("title"), text("body", True), text("author", True), text("url", True), text("symbols"), text("raw")),
            key(table, "source", "item_id", "event_time", "recorded_time"),
            **partitioned(server, "event_time"),
        )
        cut(server, table)
        op.create_index(f"ix_{table}_source_known_time", table, ["source", "known_time"])


def what_was_computed(server: str) -> None:
    "features, and what was fetched to compute them from"
    op.create_table(
        "features",
        *(text("feature"), sa.Column("version", sa.Integer(), nullable=False), text("symbol"), day("session")),
        *(moment("recorded_time"), moment("event_time"), moment("known_time")),
        *numbers("value"),
        key("features", "feature", "version", "symbol", "session", "recorded_time"),
        finite("features", "value"),
        sqlite_with_rowid=False,
        **partitioned(server, "session"),
    )
    cut(server, "features")
    op.create_table(
        "fetches",
        *(text("source"), text("dataset"), text("symbol"), day("start"), day("end"), moment("completed_time")),
        sa.Column("rows", sa.Integer(), nullable=False),
        text("note", True),
        key("fetches", "source", "dataset", "symbol", "start", "end"),
        check("fetches", "dataset", "dataset IN ('bars', 'news', 'posts')"),
        check("fetches", "span", '"start" <= "end"'),
    )


def what_was_run_and_put_aside() -> None:
    "model_runs, dead_letters"
    op.create_table(
        "model_runs",
        *(text("run_id"), text("model"), text("version"), text("namespace", True)),
        *(moment("started"), moment("ended", True), text("status"), text("parameters"), text("metrics")),
        *(text("artifact", True), text("data_hash"), text("code_hash")),
        key("model_runs", "run_id"),
        check("model_runs", "status", STATUS),
    )
    op.create_index("ix_model_runs_model_started", "model_runs", ["model", "started"])
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.Integer(), nullable=False),
        *(text("source_kind"), text("subject"), text("payload"), text("reason")),
        sa.Column("attempts", sa.Integer(), nullable=False),
        *(moment("created"), moment("resolved", True), text("resolution", True)),
        key("dead_letters", "id"),
        check("dead_letters", "source_kind", "source_kind IN ('order', 'ingest', 'alert')"),
    )
    op.create_index("ix_dead_letters_source_kind_resolved", "dead_letters", ["source_kind", "resolved"])


def downgrade() -> None:
    "Back to the first tables, if nothing would be lost by it."
    refuse_to_lose()
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP TRIGGER audit_events_tail ON audit_events")
        op.execute("DROP TABLE audit_tail")
        for function in ("follow_audit_tail()", "refuse_audit_tail_change()"):
            op.execute(f"DROP FUNCTION {function}")
        op.execute("DROP MATERIALIZED VIEW IF EXISTS quotes_hourly")
    for table in NEW:
        op.drop_table(table)
    with op.batch_alter_table("quarantine") as table:
        for rule in ("outcome", "finite"):
            table.drop_constraint(op.f(f"ck_quarantine_{rule}"), type_="check")
        for column in ("outcome", "stamp"):
            table.drop_column(column)
    with op.batch_alter_table("instruments") as table:
        table.drop_constraint(op.f("ck_instruments_status"), type_="check")
        for column in ("first_session", "last_session", "exchange", "status"):
            table.drop_column(column)
    restore_bars()
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION IF EXISTS ensure_partitions(text, timestamptz, timestamptz)")


def refuse_to_lose() -> None:
    "Only what the first tables can hold may go back."
    lost = {table: table for table in NEW}
    lost |= {
        "withdrawals in bars": "bars WHERE close IS NULL",
        "bars of symbols without an instrument": "bars WHERE symbol NOT IN (SELECT symbol FROM instruments)",
        "rejections or intraday stamps in quarantine": "quarantine WHERE outcome <> 'quarantine' OR stamp IS NOT NULL",
        "what is known of instruments": "instruments WHERE first_session IS NOT NULL OR last_session IS NOT NULL "
        "OR exchange IS NOT NULL OR status IS NOT NULL",
    }
    bind = op.get_bind()
    held = [name for name, rows in lost.items() if bind.execute(sa.text(f"SELECT 1 FROM {rows} LIMIT 1")).first()]
    if held:
        raise StoreError(
            f"going back to revision 0001 would lose {', '.join(held)}; nothing was changed. "
            f"Keep a copy and empty them first, or stay at revision 0002."
        )


def restore_bars() -> None:
    "bars as they were, with their foreign key"
    names = ", ".join(("source", "symbol", "session", "recorded_time", "event_time", "known_time", *OHLC, "volume"))
    op.rename_table("bars", "bars_after")
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE bars_after RENAME CONSTRAINT pk_bars TO pk_bars_after")
    op.create_table(
        "bars",
        *(text("source"), text("symbol"), day("session")),
        *(moment("recorded_time"), moment("event_time"), moment("known_time")),
        *numbers(*OHLC[:3]),
        sa.Column("close", sa.Double(), nullable=False),
        *numbers("volume"),
        key("bars", "source", "symbol", "session", "recorded_time"),
        sa.ForeignKeyConstraint(["symbol"], ["instruments.symbol"], name="fk_bars_symbol_instruments"),
        sqlite_with_rowid=False,
    )
    op.execute(f"INSERT INTO bars ({names}) SELECT {names} FROM bars_after")
    op.drop_table("bars_after")
