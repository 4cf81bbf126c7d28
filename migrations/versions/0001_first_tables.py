"""The first tables: bars, runs, decisions, orders and the audit trail.

The numbers lead the file names in order: mlt_lib.store.database takes the last one for the head without loading alembic.
This file is history: it repeats the columns rather than importing today's models, which will move on.
"""

import sqlalchemy as sa
from alembic import op

from mlt_lib.errors import StoreError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MONEY = sa.Text()  # exact decimals as text
TIME = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
SIDE = "side IN ('buy', 'sell')"


def upgrade() -> None:
    "Create everything."
    what_was_known()
    what_ran()
    what_was_decided()
    what_was_sent()
    what_came_of_it()
    the_trail()
    guard_the_trail()


def what_was_known() -> None:
    "instruments, bars, quarantine"
    op.create_table(
        "instruments",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("note", sa.Text()),
        sa.PrimaryKeyConstraint("symbol", name="pk_instruments"),
    )
    op.create_table(
        "bars",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("recorded_time", TIME, nullable=False),
        sa.Column("event_time", TIME, nullable=False),
        sa.Column("known_time", TIME, nullable=False),
        sa.Column("open", sa.Double()),
        sa.Column("high", sa.Double()),
        sa.Column("low", sa.Double()),
        sa.Column("close", sa.Double(), nullable=False),
        sa.Column("volume", sa.Double()),
        sa.PrimaryKeyConstraint("source", "symbol", "session", "recorded_time", name="pk_bars"),
        sa.ForeignKeyConstraint(["symbol"], ["instruments.symbol"], name="fk_bars_symbol_instruments"),
        sqlite_with_rowid=False,  # the key is the table: half the size, and rows lie in the order they are read
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("recorded_time", TIME, nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
    )
    op.create_index("ix_quarantine_source_session", "quarantine", ["source", "session"])


def what_ran() -> None:
    "runs"
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("session", sa.Date()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("code_hash", sa.Text(), nullable=False),
        sa.Column("data_hash", sa.Text(), nullable=False),
        sa.Column("settings_hash", sa.Text(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("started", TIME, nullable=False),
        sa.Column("ended", TIME),
        sa.Column("error", sa.Text()),
        sa.Column("notebook", sa.Text()),
        sa.Column("report", sa.Text()),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
        sa.CheckConstraint("status IN ('running', 'done', 'failed', 'interrupted')", name=op.f("ck_runs_status")),
    )
    op.create_index("ix_runs_job_started", "runs", ["job", "started"])


def what_was_decided() -> None:
    "decisions, signals, target_weights"
    op.create_table(
        "decisions",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("data_hash", sa.Text(), nullable=False),
        sa.Column("settings_hash", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.Column("decided_time", TIME, nullable=False),
        sa.Column("recorded_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "strategy", "session", name="pk_decisions"),
        sa.CheckConstraint("origin IN ('live', 'history')", name=op.f("ck_decisions_origin")),
    )
    op.create_table(
        "signals",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("sleeve", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "strategy", "session", "symbol", "sleeve", name="pk_signals"),
    )
    op.create_table(
        "target_weights",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("forecast", sa.Double()),
        sa.PrimaryKeyConstraint("namespace", "strategy", "session", "symbol", name="pk_target_weights"),
    )


def what_was_sent() -> None:
    "order_intents, orders, fills"
    op.create_table(
        "order_intents",
        sa.Column("client_order_id", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("slot", sa.Date(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("leg", sa.Integer(), nullable=False),
        sa.Column("slice", sa.Integer(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("quantity", MONEY, nullable=False),
        sa.Column("order_type", sa.Text(), nullable=False),
        sa.Column("time_in_force", sa.Text(), nullable=False),
        sa.Column("limit_price", MONEY),
        sa.Column("reference_price", MONEY, nullable=False),
        sa.Column("from_weight", sa.Double(), nullable=False),
        sa.Column("to_weight", sa.Double(), nullable=False),
        sa.Column("payload_hash", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("broker_id", sa.Text()),
        sa.Column("filled_quantity", MONEY, nullable=False),
        sa.Column("valid_until", TIME, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.PrimaryKeyConstraint("client_order_id", name="pk_order_intents"),
        sa.CheckConstraint(SIDE, name=op.f("ck_order_intents_side")),
        sa.CheckConstraint(
            "state IN ('INTENT', 'SUBMITTING', 'UNKNOWN', 'WORKING', 'PARTIAL', "
            "'FILLED', 'CANCELED', 'EXPIRED', 'REJECTED', 'DEAD', 'LAPSED')",
            name=op.f("ck_order_intents_state"),
        ),
    )
    op.create_index("ix_order_intents_namespace_state", "order_intents", ["namespace", "state"])
    op.create_index("ix_order_intents_namespace_slot", "order_intents", ["namespace", "slot"])
    op.create_table(
        "orders",
        sa.Column("broker_id", sa.Text(), nullable=False),
        sa.Column("client_order_id", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("quantity", MONEY, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("filled_quantity", MONEY, nullable=False),
        sa.Column("filled_average_price", MONEY),
        sa.Column("submitted_at", TIME, nullable=False),
        sa.Column("filled_at", TIME),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.PrimaryKeyConstraint("broker_id", name="pk_orders"),
        sa.ForeignKeyConstraint(
            ["client_order_id"], ["order_intents.client_order_id"], name="fk_orders_client_order_id_order_intents"
        ),
        sa.CheckConstraint(SIDE, name=op.f("ck_orders_side")),
    )
    op.create_index("ix_orders_client_order_id", "orders", ["client_order_id"])
    op.create_table(
        "fills",
        sa.Column("execution_key", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("client_order_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("quantity", MONEY, nullable=False),
        sa.Column("price", MONEY, nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("market_time", TIME, nullable=False),
        sa.Column("recorded_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("execution_key", name="pk_fills"),
        sa.ForeignKeyConstraint(
            ["client_order_id"], ["order_intents.client_order_id"], name="fk_fills_client_order_id_order_intents"
        ),
        sa.CheckConstraint(SIDE, name=op.f("ck_fills_side")),
    )
    op.create_index("ix_fills_namespace_session", "fills", ["namespace", "session"])
    op.create_index("ix_fills_client_order_id", "fills", ["client_order_id"])


def what_came_of_it() -> None:
    "positions, performance"
    op.create_table(
        "positions",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("quantity", MONEY, nullable=False),
        sa.Column("price", MONEY, nullable=False),
        sa.Column("value", MONEY, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "session", "symbol", name="pk_positions"),
    )
    op.create_table(
        "performance",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("equity", MONEY, nullable=False),
        sa.Column("cash", MONEY, nullable=False),
        sa.Column("gross", sa.Double(), nullable=False),
        sa.Column("net", sa.Double(), nullable=False),
        sa.Column("pnl", MONEY),
        sa.Column("day_return", sa.Double()),
        sa.Column("model_return", sa.Double()),
        sa.Column("book_gap", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "session", name="pk_performance"),
    )


def the_trail() -> None:
    "audit_events"
    op.create_table(
        "audit_events",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.Column("client_order_id", sa.Text()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("market_time", TIME),
        sa.Column("wall_time", TIME, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit_events"),
        sa.UniqueConstraint("previous_hash", name="uq_audit_events_previous_hash"),
        sqlite_autoincrement=True,  # remembers the highest number ever given, so that a removed tail shows
    )
    op.create_index("ix_audit_events_client_order_id", "audit_events", ["client_order_id"])


def guard_the_trail() -> None:
    "The database itself refuses to change or remove an audit event."
    if op.get_context().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_events_no_{action.lower()} BEFORE {action} ON audit_events "
                f"BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END"
            )
        op.execute(  # INSERT OR REPLACE removes the old row without asking the trigger on DELETE
            "CREATE TRIGGER audit_events_no_replace BEFORE INSERT ON audit_events "
            "WHEN EXISTS (SELECT 1 FROM audit_events WHERE sequence = NEW.sequence OR previous_hash = NEW.previous_hash) "
            "BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END"
        )
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'audit events are append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
        )


def downgrade() -> None:
    "There is nothing before the first tables: remove them all, if there is nothing in them."
    tables = (
        *("audit_events", "performance", "positions", "fills", "orders", "order_intents"),
        *("target_weights", "signals", "decisions", "runs", "quarantine", "bars", "instruments"),
    )
    bind = op.get_bind()
    if held := [table for table in tables if bind.execute(sa.text(f"SELECT 1 FROM {table} LIMIT 1")).first()]:
        raise StoreError(f"going back to before revision 0001 would lose {', '.join(held)}; nothing was changed.")
    for table in tables:
        op.drop_table(table)
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_audit_change()")
