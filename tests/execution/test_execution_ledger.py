"Decisions and orders are recorded once, move only as they may, and fills add up."

from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_broker import CASH, CLOSE, NAMESPACE, NOW, SLOT, make_decided, make_intent, record, wire

from mlt_lib.errors import DataError, OrderError
from mlt_lib.execution.answers import read_order
from mlt_lib.execution.decisions import decision_of, record_decision, record_history
from mlt_lib.execution.ledger import (
    FINAL,
    SEEN,
    TRANSITIONS,
    acknowledge,
    acting,
    book_fills,
    claim,
    mark,
    orders_of,
    require_transition,
)
from mlt_lib.execution.positions import cash, fills_of, holdings, performance, snapshot
from mlt_lib.store.audit import head, verify
from mlt_lib.store.database import open_database
from mlt_lib.store.schema import INTENT_STATES

KO, PEP = make_intent("KO"), make_intent("PEP", quantity="5", price="180")
NOTHING = pd.Series(dtype=float)


@pytest.fixture
def engine(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path}/desk.db")
    yield engine
    engine.dispose()


def count(engine, table: str) -> int:
    with engine.connect() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()


# --- decisions --------------------------------------------------------------------------------------------------------


def test_a_decision_is_read_back_to_the_bit(engine):
    given = make_decided(weights={"PEP": 1 / 3, "KO": 0.1 + 0.2})
    assert record_decision(engine, given, (KO, PEP)).new
    found = decision_of(engine, *given.key)
    assert found.decided.weights.to_dict() == given.weights.to_dict()
    assert found.decided.signals.at["KO", "momentum"] == 0.1 and pd.isna(found.decided.signals.at["PEP", "momentum"])
    assert found.decided.forecast["KO"] == 0.01 and pd.isna(found.decided.forecast["PEP"])
    assert {order.intent for order in found.orders} == {KO, PEP}
    assert (found.decided.decided_time, found.decided.data_hash) == (CLOSE, "d" * 64)


def test_a_timestamp_is_as_good_as_a_date(engine):
    record_decision(engine, replace(make_decided(), session=pd.Timestamp(SLOT)), (KO,))
    assert decision_of(engine, NAMESPACE, "ensemble", pd.Timestamp(SLOT)).decided.session == SLOT
    assert len(orders_of(engine, NAMESPACE, pd.Timestamp(SLOT))) == 1


def test_no_decision_is_none(engine):
    assert decision_of(engine, NAMESPACE, "ensemble", SLOT) is None


def test_an_empty_decision_can_be_recorded(engine):
    nothing = replace(make_decided(weights={}), signals=pd.DataFrame(), forecast=NOTHING)
    record_decision(engine, nothing)
    found = decision_of(engine, *nothing.key)
    assert (len(found.decided.weights), found.orders) == (0, ())


def test_the_same_again_writes_nothing(engine):
    record(engine, KO, PEP)
    before = head(engine)
    assert not record(engine, KO, PEP).new
    assert head(engine) == before and count(engine, "order_intents") == 2


@pytest.mark.parametrize(
    ("weights", "intents", "said"),
    [
        ({"KO": 0.25, "PEP": 0.51}, (KO, PEP), "other target weights"),
        (None, (replace(KO, quantity=Decimal(11)), PEP), "other orders are recorded for KO;"),
        (None, (replace(KO, side="sell"), PEP), "other orders are recorded for KO;"),
        (None, (KO,), "other orders are recorded for PEP;"),
        (None, (KO, PEP, make_intent("PG")), "other orders are recorded for PG;"),
    ],
)
def test_another_payload_is_a_conflict_and_changes_nothing(engine, weights, intents, said):
    record(engine, KO, PEP)
    before = head(engine)
    with pytest.raises(OrderError, match=said):
        record_decision(engine, make_decided(weights=weights), intents)
    assert head(engine) == before


def test_an_id_taken_by_another_decision_takes_the_whole_decision_back(engine):
    record(engine, KO)
    later = date(2022, 12, 29)
    stolen = replace(make_intent("PEP", slot=later), client_order_id=KO.client_order_id)
    with pytest.raises(OrderError, match="recorded already, for another decision"):
        record_decision(engine, make_decided(later), (make_intent("PG", slot=later), stolen))
    assert (count(engine, "decisions"), count(engine, "order_intents")) == (1, 1)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (replace(KO, quantity=Decimal("NaN")), OrderError),
        (replace(KO, quantity=Decimal(-1)), OrderError),
        (replace(KO, reference_price=Decimal("Infinity")), OrderError),
        (replace(KO, slot=date(2022, 12, 27)), OrderError),
        (replace(KO, namespace="replay"), OrderError),
    ],
)
def test_what_can_not_be_an_order_is_refused(engine, bad, error):
    with pytest.raises(error):
        record(engine, bad)
    assert count(engine, "decisions") == 0


def test_a_missing_weight_is_refused(engine):
    with pytest.raises(DataError, match="no target weight for PEP"):
        record_decision(engine, make_decided(weights={"KO": 0.1, "PEP": float("nan")}))


def test_history_is_written_once_and_kept(engine):
    days = [date(2022, 12, d) for d in (14, 21, 28)]
    past = [replace(make_decided(day), origin="history") for day in days]
    assert (record_history(engine, past[:2]), record_history(engine, past), record_history(engine, past)) == (2, 1, 0)
    assert decision_of(engine, NAMESPACE, "ensemble", days[1]).decided.origin == "history"
    assert count(engine, "audit_events") == 2


# --- states -----------------------------------------------------------------------------------------------------------


def test_the_machine_knows_the_states_of_the_store():
    assert set(TRANSITIONS) == set(INTENT_STATES)
    assert all(TRANSITIONS[state] == frozenset() for state in FINAL)
    assert "REJECTED" in SEEN and "DEAD" not in TRANSITIONS["INTENT"], "what was never tried can't have been refused"


@given(st.lists(st.sampled_from(INTENT_STATES), min_size=2, max_size=6))
def test_a_final_state_is_never_left(path):
    for before, after in pairwise(path):
        if before in FINAL:
            with pytest.raises(OrderError, match=f"is {before} and can't become {after}"):
                require_transition("mlt-1", before, after)


def test_an_order_is_claimed_by_one(engine):
    record(engine, KO)
    assert claim(engine, KO.client_order_id, NOW).attempts == 1
    with pytest.raises(OrderError, match="is SUBMITTING and can't become SUBMITTING"):
        claim(engine, KO.client_order_id, NOW)
    assert orders_of(engine, NAMESPACE)[0].attempts == 1


def test_only_recorded_orders_are_touched(engine):
    for touch in (lambda: claim(engine, "mlt-x", NOW), lambda: mark(engine, "mlt-x", "DEAD", "denied", "no", NOW)):
        with pytest.raises(OrderError, match="isn't in the ledger"):
            touch()


def test_who_acts_is_in_the_trail(engine):
    record(engine, KO)
    with acting("trade", "run-7"):
        claim(engine, KO.client_order_id, NOW)
    mark(engine, KO.client_order_id, "UNKNOWN", "unknown", "no answer", NOW)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT kind, actor, run_id FROM audit_events ORDER BY sequence")
        said = [tuple(row) for row in rows][-2:]
    assert said == [("order.claimed", "trade", "run-7"), ("order.unknown", "desk", None)]


def test_an_illegal_mark_leaves_state_and_trail(engine):
    record(engine, KO)
    before = head(engine)
    with pytest.raises(OrderError):
        mark(engine, KO.client_order_id, "DEAD", "refused", "never sent", NOW)
    assert (orders_of(engine, NAMESPACE)[0].state, head(engine)) == ("INTENT", before)


def test_orders_are_found_by_session_and_state(engine):
    record(engine, KO, PEP)
    later = date(2022, 12, 29)
    record(engine, make_intent("PG", slot=later), slot=later)
    claim(engine, KO.client_order_id, NOW)
    assert [o.intent.symbol for o in orders_of(engine, NAMESPACE)] == ["KO", "PEP", "PG"]
    assert [o.intent.symbol for o in orders_of(engine, NAMESPACE, later)] == ["PG"]
    assert [o.intent.symbol for o in orders_of(engine, NAMESPACE, states=["SUBMITTING"])] == ["KO"]
    assert orders_of(engine, "replay-1") == ()


# --- fills ------------------------------------------------------------------------------------------------------------


def at_the_broker(engine, *intents):
    record(engine, *intents)
    for intent in intents:
        claim(engine, intent.client_order_id, NOW)
        acknowledge(engine, read_order(wire(intent)), "accepted", NOW)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=12), st.integers(1, 9999))
def test_fills_are_monotone_and_cost_what_the_broker_says(tmp_path_factory, views, cents):
    "Whatever views arrive in whatever order, what is booked is the highest, at the broker's average."
    engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('fills')}/desk.db")
    at_the_broker(engine, KO)
    highest, average = 0, Decimal(0)
    for number, view in enumerate([*views, *views]):
        price = Decimal(6000 + cents * (number + 1)) / 100
        if view > highest:
            highest, average = view, price
        status = "filled" if view == 10 else "partially_filled"
        book_fills(engine, NAMESPACE, [read_order(wire(KO, status, str(view), str(price)))], NOW)
    fills = fills_of(engine, NAMESPACE)
    assert fills["quantity"].sum() == highest == holdings(engine, NAMESPACE)["KO"]
    assert abs(CASH - cash(engine, NAMESPACE, CASH) - highest * average) < Decimal("1e-18")
    assert verify(engine).ok
    engine.dispose()


def test_a_canceled_order_keeps_its_part(engine):
    at_the_broker(engine, KO)
    book_fills(engine, NAMESPACE, [read_order(wire(KO, "canceled", "4", "60"))], NOW)
    assert (orders_of(engine, NAMESPACE)[0].state, holdings(engine, NAMESPACE)) == ("CANCELED", {"KO": Decimal(4)})


def test_orders_of_another_namespace_are_not_booked(engine):
    at_the_broker(engine, KO)
    filled = read_order(wire(KO, "filled", "10", "60"))
    assert book_fills(engine, "replay-1", [filled], NOW) == 0
    assert book_fills(engine, NAMESPACE, [filled], NOW) == 1


def test_another_order_under_our_id_books_nothing(engine):
    at_the_broker(engine, KO)
    other = read_order(wire(replace(KO, side="sell"), "filled", "10", "60"))
    with pytest.raises(OrderError, match="HALT"):
        book_fills(engine, NAMESPACE, [other], NOW)
    assert holdings(engine, NAMESPACE) == {}


def test_a_fill_belongs_to_the_session_of_its_hour_in_new_york(engine):
    at_the_broker(engine, KO)
    late = wire(KO, "filled", "10", "60", filled_at="2022-12-30T02:00:00Z")  # 21:00 on the 29th in New York
    book_fills(engine, NAMESPACE, [read_order(late)], NOW)
    assert fills_of(engine, NAMESPACE)["session"][0] == date(2022, 12, 29)
    assert holdings(engine, NAMESPACE, SLOT) == {} and holdings(engine, NAMESPACE, date(2022, 12, 29))


# --- the photograph ---------------------------------------------------------------------------------------------------

DAY, NEXT = date(2022, 12, 29), date(2022, 12, 30)


@pytest.fixture
def book(engine):
    "10 KO bought at 60 and 5 PEP at 180, on DAY."
    at_the_broker(engine, KO, PEP)
    done = {"status": "filled", "filled_at": "2022-12-29T21:00:00Z"}
    ko = read_order(wire(KO, filled="10", price="60", **done))
    book_fills(engine, NAMESPACE, [ko, read_order(wire(PEP, filled="5", price="180", **done))], NOW)
    return engine


def test_a_snapshot_adds_up(book):
    prices = pd.Series({"KO": 61.5, "PEP": 180.0, "PG": 150.0})
    photo = snapshot(book, NAMESPACE, DAY, prices, Decimal(1_600), pd.Series({"KO": 0.5, "PG": 0.1}))
    assert (photo.equity, photo.cash, photo.pnl) == (Decimal(1_615), Decimal(100), None)
    assert photo.gross == photo.net == pytest.approx(1515 / 1615)
    assert photo.book_gap == pytest.approx((abs(615 / 1615 - 0.5) + 900 / 1615 + 0.1) / 2)
    again = snapshot(book, NAMESPACE, DAY, prices, Decimal(1_600), pd.Series({"KO": 0.5, "PG": 0.1}))
    assert (again.equity, count(book, "positions"), count(book, "performance")) == (photo.equity, 2, 1)
    after = snapshot(book, NAMESPACE, NEXT, prices + 1, Decimal(1_600), NOTHING, model_return=0.01)
    assert (after.pnl, after.day_return) == (Decimal(15), pytest.approx(15 / 1615))
    table = performance(book, NAMESPACE)
    assert list(table["equity"]) == [Decimal(1_615), Decimal(1_630)] and table["model_return"].iloc[1] == 0.01


def test_a_rerun_of_an_older_session_sees_its_own_fills(book):
    photo = snapshot(book, NAMESPACE, SLOT, NOTHING, Decimal(1_600), NOTHING)
    assert (photo.equity, photo.gross, len(photo.positions)) == (Decimal(1_600), 0.0, 0)


@pytest.mark.parametrize("price", [float("nan"), 0.0, None])
def test_a_holding_without_a_price_is_an_error(book, price):
    prices = pd.Series({"KO": 61.5} | ({} if price is None else {"PEP": price}))
    with pytest.raises(DataError, match="PEP is held and has no price"):
        snapshot(book, NAMESPACE, DAY, prices, Decimal(1_600), NOTHING)


def test_a_book_without_equity_is_an_error(book):
    with pytest.raises(DataError, match="equity of demo is"):
        snapshot(book, NAMESPACE, DAY, pd.Series({"KO": 1.0, "PEP": 1.0}), Decimal(1_000), NOTHING)


def test_a_short_position_counts_against_the_net(engine):
    sale = make_intent("KO", side="sell")
    at_the_broker(engine, sale)
    book_fills(engine, NAMESPACE, [read_order(wire(sale, "filled", "10", "60"))], NOW)
    photo = snapshot(engine, NAMESPACE, SLOT, pd.Series({"KO": 60.0}), Decimal(1_000), NOTHING)
    assert (photo.equity, photo.gross, photo.net) == (Decimal(1_000), 0.6, -0.6)
