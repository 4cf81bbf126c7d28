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
USD, UNITS, ANY = (
    "1e12",
    "1e18",
    "1e300",
)  # PostgreSQL calls NaN greater than every number: only an upper bound stops it
OHLC = ("open", "high", "low", "close")
STATUS = "status IN ('running', 'done', 'failed', 'interrupted')"
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
    widen()
    rebuild_bars()
    what_was_known()
    what_was_written()
    what_was_computed()
    what_was_run_and_put_aside()


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


def bars(name: str) -> None:
    "The table of bars as it is from here on; its constraints are named for `bars`."
    op.create_table(
        name,
        *(text("source"), text("symbol"), day("session")),
        *(moment("recorded_time"), moment("event_time"), moment("known_time")),
        *numbers(*OHLC, "volume"),
        key("bars", "source", "symbol", "session", "recorded_time"),
        *(prices("bars", *OHLC), amounts("bars", "volume"), withdrawn("bars")),
        sqlite_with_rowid=False,
    )


def rebuild_bars() -> None:
    "bars, with every row that was in it"
    refuse_impossible_bars()
    names = ", ".join(("source", "symbol", "session", "recorded_time", "event_time", "known_time", *OHLC, "volume"))
    op.rename_table("bars", "bars_before")
    if op.get_context().dialect.name == "postgresql":  # names of keys are shared there
        op.execute("ALTER TABLE bars_before RENAME CONSTRAINT pk_bars TO pk_bars_before")
    bars("bars")
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


def what_was_known() -> None:
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
    )
    op.create_table(
        "quotes",
        *(text("source"), text("symbol"), moment("event_time"), moment("recorded_time"), moment("known_time")),
        *numbers("bid", "bid_size", "ask", "ask_size"),
        key("quotes", "source", "symbol", "event_time", "recorded_time"),
        *(prices("quotes", "bid", "ask"), amounts("quotes", "bid_size", "ask_size")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fundamentals",
        *(text("source"), text("symbol"), text("item"), day("period_end")),
        *(moment("recorded_time"), moment("event_time"), moment("known_time")),
        *numbers("value"),
        key("fundamentals", "source", "symbol", "item", "period_end", "recorded_time"),
        finite("fundamentals", "value"),
        sqlite_with_rowid=False,
    )


def what_was_written() -> None:
    "news, posts"
    for table in ("news", "posts"):
        op.create_table(
            table,
            *(text("source"), text("item_id"), moment("event_time"), moment("recorded_time"), moment("known_time")),
            *(text("title"), text("body", True), text("author", True), text("url", True), text("symbols"), text("raw")),
            key(table, "source", "item_id", "event_time", "recorded_time"),
        )
        op.create_index(f"ix_{table}_source_known_time", table, ["source", "known_time"])


def what_was_computed() -> None:
    "features, and what was fetched to compute them from"
    op.create_table(
        "features",
        *(text("feature"), sa.Column("version", sa.Integer(), nullable=False), text("symbol"), day("session")),
        *(moment("recorded_time"), moment("event_time"), moment("known_time")),
        *numbers("value"),
        key("features", "feature", "version", "symbol", "session", "recorded_time"),
        finite("features", "value"),
        sqlite_with_rowid=False,
    )
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
    for table in NEW:
        op.drop_table(table)
    with op.batch_alter_table("quarantine") as table:
        table.drop_constraint(op.f("ck_quarantine_outcome"), type_="check")
        for column in ("outcome", "stamp"):
            table.drop_column(column)
    with op.batch_alter_table("instruments") as table:
        table.drop_constraint(op.f("ck_instruments_status"), type_="check")
        for column in ("first_session", "last_session", "exchange", "status"):
            table.drop_column(column)
    restore_bars()


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
