"The outcome table, one row at a time, and the gate before it, against a broker whose answers are scripted."

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_broker import CASH, END, NAMESPACE, NOW, SLOT, ScriptedBroker, make_facts, make_intent, record, wire

from mlt_lib.errors import BrokerError, OrderError
from mlt_lib.execution.answers import Refused, Unknown, read_order
from mlt_lib.execution.gateway import gather_facts, send
from mlt_lib.execution.ledger import OPEN, acknowledge, book_fills, claim, mark, orders_of
from mlt_lib.execution.positions import fills_of, holdings
from mlt_lib.execution.reconcile import reconcile
from mlt_lib.execution.steps import LABELS, Crash, crashing
from mlt_lib.store.audit import verify
from mlt_lib.store.database import open_database

KO, PEP = make_intent("KO"), make_intent("PEP", quantity="5", price="180")


@pytest.fixture
def engine(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path}/desk.db")
    yield engine
    engine.dispose()


def kinds(engine) -> list[str]:
    "The audit trail, in short."
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT kind FROM audit_events WHERE kind LIKE 'order.%' ORDER BY sequence")
        return [kind.removeprefix("order.") for (kind,) in rows]


TABLE = {
    # script of the broker        state      posts  audit trail after "intended"
    ("accept",): ("WORKING", 1, ["claimed", "accepted"]),
    ("unheard",): ("WORKING", 1, ["claimed", "unknown", "adopted"]),
    ("lost", "accept"): ("WORKING", 2, ["claimed", "unknown", "claimed", "accepted"]),
    ("late", "accept"): ("WORKING", 2, ["claimed", "unknown", "claimed", "accepted"]),
    ("lost", "unheard"): ("WORKING", 2, ["claimed", "unknown", "claimed", "unknown", "adopted"]),
    ("lost", "lost"): ("UNKNOWN", 2, ["claimed", "unknown", "claimed", "unknown"]),
    ("refuse",): ("DEAD", 1, ["claimed", "refused"]),
    ("lost", "refuse"): ("DEAD", 2, ["claimed", "unknown", "claimed", "refused"]),
    ("late", "refuse"): ("WORKING", 2, ["claimed", "unknown", "claimed", "adopted"]),
    ("limited", "accept"): ("WORKING", 2, ["claimed", "released", "claimed", "accepted"]),
    ("limited", "limited"): ("INTENT", 2, ["claimed", "released", "claimed", "released"]),
    ("lost", "limited"): ("UNKNOWN", 2, ["claimed", "unknown", "claimed", "released"]),
    ("phantom", "accept"): ("WORKING", 2, ["claimed", "unknown", "claimed", "accepted"]),
}


@pytest.mark.parametrize("script", TABLE, ids="-".join)
def test_the_outcome_table(engine, script):
    state, posts, trail = TABLE[script]
    record(engine, KO)
    broker = ScriptedBroker(script)
    sent = send(engine, broker, NAMESPACE, make_facts(), sleep=broker.sleep)
    assert [order.state for order in sent.orders] == [state]
    assert broker.posts == [KO.client_order_id] * posts
    assert kinds(engine) == ["intended", *trail]
    assert len(broker.book) == (state == "WORKING") and not broker.late or "late" in script


def test_what_was_sent_says_so_in_a_line(engine):
    record(engine, KO, PEP, make_intent("PG", quantity="3"))
    broker, calls = ScriptedBroker(["accept", "refuse", "lost", "lost"]), []
    sent = send(engine, broker, NAMESPACE, make_facts(), lambda done, total: calls.append((done, total)), broker.sleep)
    assert str(sent) == "1 accepted, 1 not sent, 1 not settled"
    assert "insufficient buying power" in sent.stopped[0].reason
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert "insufficient buying power" in sent._repr_html_()
    again = send(engine, broker, NAMESPACE, make_facts(), sleep=broker.sleep)
    assert [order.intent.symbol for order in again.orders] == ["PG"], "a dead order replays by nothing"
    assert str(send(engine, broker, NAMESPACE, make_facts())) == "no orders"


def test_a_denied_order_is_dead_with_its_reason_and_never_posted(engine):
    record(engine, KO)
    broker = ScriptedBroker()
    sent = send(engine, broker, NAMESPACE, make_facts(breached=("drawdown",)), sleep=broker.sleep)
    assert (sent.orders[0].state, broker.posts) == ("DEAD", [])
    assert sent.orders[0].reason.startswith("limit_breached: ")
    assert kinds(engine) == ["intended", "claimed", "denied"]


def test_sending_switched_off_leaves_the_orders_as_they_are(engine):
    record(engine, KO)
    broker = ScriptedBroker()
    sent = send(engine, broker, NAMESPACE, make_facts(submit=False), sleep=broker.sleep)
    assert (sent.unsettled, sent.orders[0].state, broker.posts) == (sent.orders, "INTENT", [])
    assert kinds(engine) == ["intended"]
    sent = send(engine, broker, NAMESPACE, make_facts(), sleep=broker.sleep)
    assert sent.orders[0].state == "WORKING" and len(broker.posts) == 1


def test_a_denial_in_doubt_asks_the_broker_first(engine):
    "The first attempt is still under way when the second is denied: the order lives."
    record(engine, KO)
    broker = ScriptedBroker(["late", "lost"])
    claim(engine, KO.client_order_id, NOW)
    with pytest.raises(Unknown):
        broker.submit(KO)
    mark(engine, KO.client_order_id, "UNKNOWN", "unknown", "no answer", NOW)
    sent = send(engine, broker, NAMESPACE, make_facts(breached=("drawdown",)), sleep=broker.sleep)
    assert sent.orders[0].state == "WORKING"


def test_buying_power_is_used_up_order_by_order(engine):
    record(engine, KO, PEP)  # 600 and 900 USD
    broker = ScriptedBroker()
    sent = send(engine, broker, NAMESPACE, make_facts(buying_power=Decimal(1_400)), sleep=broker.sleep)
    assert [(o.intent.symbol, o.state) for o in sent.orders] == [("KO", "WORKING"), ("PEP", "DEAD")]
    assert "buying_power: needs 927.00 USD, the broker grants 782.00 USD" in sent.orders[1].reason


def test_sales_go_first(engine):
    record(engine, KO, make_intent("PG", side="sell"))
    broker = ScriptedBroker()
    sent = send(engine, broker, NAMESPACE, make_facts(), sleep=broker.sleep)
    assert [order.intent.symbol for order in sent.orders] == ["PG", "KO"]


def test_a_failing_look_up_stops_the_sending(engine):
    "Who can't be asked can't be trusted with the next order."
    record(engine, KO, PEP)
    broker = ScriptedBroker(["unheard"])
    broker.blind = 1
    with pytest.raises(BrokerError, match="no answer to the look-up"):
        send(engine, broker, NAMESPACE, make_facts(), sleep=broker.sleep)
    assert [o.state for o in orders_of(engine, NAMESPACE)] == ["UNKNOWN", "INTENT"]
    assert [o.state for o in reconcile(engine, broker, NAMESPACE, CASH).settled] == ["WORKING"]


def test_another_order_under_our_id_halts(engine):
    record(engine, KO)
    broker = ScriptedBroker(["phantom"])
    broker.book[KO.client_order_id] = read_order(wire(replace(KO, quantity=Decimal(99))))
    with pytest.raises(OrderError, match="HALT.*ours is KO buy 10.*broker's is KO buy 99"):
        send(engine, broker, NAMESPACE, make_facts(), sleep=broker.sleep)
    assert orders_of(engine, NAMESPACE)[0].state == "SUBMITTING"


def test_facts_come_from_the_broker(engine):
    record(engine, KO)
    facts = gather_facts(engine, ScriptedBroker(), NAMESPACE, "paper", False, Decimal(9), ["drawdown"])
    assert (facts.now, facts.session, facts.tradable) == (NOW, SLOT, frozenset({"KO"}))
    assert (facts.kind, facts.submit, facts.max_order_usd, facts.breached) == (
        "paper",
        False,
        Decimal(9),
        ("drawdown",),
    )
    assert facts.buying_power == 2 * CASH


# --- reconciliation ---------------------------------------------------------------------------------------------------


def working(engine, broker, *intents):
    "Orders that the broker has and the ledger knows of."
    record(engine, *intents)
    send(engine, broker, NAMESPACE, make_facts(), sleep=broker.sleep)


def test_fills_are_booked_and_books_compared(engine):
    broker = ScriptedBroker()
    working(engine, broker, KO, PEP)
    broker.fill(KO, "4")
    known = reconcile(engine, broker, NAMESPACE, CASH)
    assert (known.fills, known.holdings, known.cash) == (1, {"KO": Decimal(4)}, CASH - 240)
    broker.fill(KO, "10", price="60")
    broker.fill(PEP, "0", status="expired")
    assert reconcile(engine, broker, NAMESPACE, CASH).fills == 1
    assert [o.state for o in orders_of(engine, NAMESPACE)] == ["FILLED", "EXPIRED"]
    assert reconcile(engine, broker, NAMESPACE, CASH).fills == 0
    assert list(fills_of(engine, NAMESPACE)["quantity"]) == [Decimal(4), Decimal(6)]


@pytest.mark.parametrize(
    ("held", "cash", "said"),
    [
        ({"KO": Decimal(3)}, CASH, r"KO \(ledger 0, broker 3\)"),
        ({}, CASH - Decimal("0.02"), r"cash \(ledger .* from 100,000.00 USD at the start, broker 99,999.98 USD\)"),
        ({"KO": Decimal(-1), "PG": Decimal(2)}, CASH, r"KO .*; PG "),
    ],
)
def test_a_difference_halts_and_repairs_nothing(engine, held, cash, said):
    broker = ScriptedBroker()
    broker.held, broker.cash = held, cash
    for _ in range(2):  # and goes on halting
        with pytest.raises(BrokerError, match=f"HALT in demo: .*{said}"):
            reconcile(engine, broker, NAMESPACE, CASH)
    assert broker.posts == []
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM audit_events WHERE kind = 'reconcile.halt'").scalar()
    assert found == 2


def test_a_cent_of_rounding_is_no_difference(engine):
    broker = ScriptedBroker()
    broker.cash = CASH - Decimal("0.01")
    assert reconcile(engine, broker, NAMESPACE, CASH).cash == CASH


def test_a_fill_between_list_and_positions_is_looked_at_again(engine):
    broker = ScriptedBroker()
    working(engine, broker, KO)
    listed, positions = broker.orders, broker.positions

    def fills_meanwhile():
        broker.positions = positions
        broker.fill(KO, "10")
        return positions()

    broker.positions = fills_meanwhile
    assert reconcile(engine, broker, NAMESPACE, CASH).fills == 1
    assert listed(NOW)[0].state == "FILLED"


def test_an_order_the_broker_forgot_halts(engine):
    broker = ScriptedBroker()
    working(engine, broker, KO)
    broker.book.clear()
    with pytest.raises(BrokerError, match="no longer knows order .*KO"):
        reconcile(engine, broker, NAMESPACE, CASH)


def test_an_order_missing_from_the_list_is_asked_for(engine):
    broker = ScriptedBroker()
    working(engine, broker, KO)
    broker.fill(KO, "10")
    broker.hidden = {KO.client_order_id}
    assert reconcile(engine, broker, NAMESPACE, CASH).fills == 1


def test_orders_of_others_are_named_and_left_alone(engine):
    broker = ScriptedBroker()
    working(engine, broker, KO)
    other = broker.accept(replace(PEP, client_order_id="by-hand"))
    assert reconcile(engine, broker, NAMESPACE, CASH).foreign == (other,)


def test_an_old_intent_lapses_without_a_word_to_the_broker(engine):
    record(engine, KO)
    broker = ScriptedBroker(now=END)
    assert [o.state for o in reconcile(engine, broker, NAMESPACE, CASH, broker.sleep).settled] == ["LAPSED"]
    assert broker.posts == []


@pytest.mark.parametrize(("script", "state"), [("lost", "LAPSED"), ("unheard", "WORKING"), ("late", "WORKING")])
def test_an_old_order_in_doubt_is_looked_for_twice(engine, script, state):
    record(engine, KO)
    broker = ScriptedBroker([script], now=END + timedelta(days=30))
    claim(engine, KO.client_order_id, NOW)
    with pytest.raises(Unknown):
        broker.submit(KO)
    settled = reconcile(engine, broker, NAMESPACE, CASH, broker.sleep).settled
    assert [order.state for order in settled] == [state]


def test_an_order_given_up_comes_back_when_the_broker_has_it(engine):
    "Dead by a refusal that wasn't one: the list brings it to light and its fill is booked."
    record(engine, KO)
    broker = ScriptedBroker(["refuse"])
    send(engine, broker, NAMESPACE, make_facts(), sleep=broker.sleep)
    broker.accept(KO)
    broker.fill(KO, "10")
    known = reconcile(engine, broker, NAMESPACE, CASH)
    assert known.holdings == {"KO": Decimal(10)}
    assert kinds(engine)[-2:] == ["filled", "surfaced"]


def test_a_look_up_that_can_not_be_made_closes_the_gate(engine):
    record(engine, KO)
    claim(engine, KO.client_order_id, NOW)
    broker = ScriptedBroker()
    broker.blind = 1
    with pytest.raises(BrokerError):
        reconcile(engine, broker, NAMESPACE, CASH)
    assert orders_of(engine, NAMESPACE)[0].state == "SUBMITTING"


def test_stale_views_change_nothing(engine):
    broker = ScriptedBroker()
    working(engine, broker, KO)
    broker.fill(KO, "4")
    reconcile(engine, broker, NAMESPACE, CASH)
    old = [read_order(wire(KO)), read_order(wire(KO, "partially_filled", "2", "60"))]
    assert book_fills(engine, NAMESPACE, old, NOW) == 0
    assert (orders_of(engine, NAMESPACE)[0].state, holdings(engine, NAMESPACE)) == ("PARTIAL", {"KO": Decimal(4)})
    assert acknowledge(engine, old[0], "adopted", NOW).state == "PARTIAL"
    assert Refused(404, None, "x").code is None


# --- anything may happen ----------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["accept", "unheard", "lost", "late", "limited", "phantom"])
CRASHES = st.tuples(st.sampled_from(LABELS[3:7]), st.integers(1, 4))


@settings(max_examples=15, deadline=None)
@given(script=st.lists(WORDS, max_size=12), crashes=st.lists(CRASHES, max_size=4))
def test_whatever_happens_each_order_is_there_once(tmp_path_factory, script, crashes):
    engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('any')}/desk.db")
    broker, intents = ScriptedBroker(script), (KO, PEP, make_intent("PG", quantity="3"))
    record(engine, *intents)
    for crash in [*crashes, *[("after_positions", 1)] * 20]:
        try:
            with crashing(*crash):
                reconcile(engine, broker, NAMESPACE, CASH, broker.sleep)
                send(engine, broker, NAMESPACE, make_facts(), sleep=broker.sleep)
        except Crash:
            engine.dispose()
        if all(order.state in OPEN for order in orders_of(engine, NAMESPACE)):
            break
    broker.sleep(0)
    assert {cid: order.quantity for cid, order in broker.book.items()} == {
        intent.client_order_id: intent.quantity for intent in intents
    }
    assert all(order.state == "WORKING" for order in orders_of(engine, NAMESPACE))
    assert verify(engine).ok
    engine.dispose()


@pytest.mark.parametrize("state", ["INTENT", "UNKNOWN"])
def test_an_order_decided_for_one_broker_never_goes_to_another(engine, state):
    record(engine, KO, PEP)
    if state == "UNKNOWN":
        claim(engine, PEP.client_order_id, NOW)
        mark(engine, PEP.client_order_id, "UNKNOWN", "unknown", "silence", NOW)
    broker = ScriptedBroker()
    other = "live" if make_facts().kind != "live" else "paper"
    with pytest.raises(OrderError, match=f"KO .* another broker than {other}"):
        send(engine, broker, NAMESPACE, replace(make_facts(), kind=other))
    assert not broker.posts
    assert {o.intent.symbol: o.state for o in orders_of(engine, NAMESPACE)} == {"KO": "INTENT", "PEP": state}
