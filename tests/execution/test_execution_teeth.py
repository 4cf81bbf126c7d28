"Planted faults: each careless variant of the order path must be caught by the harness that passes the real one."

from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest
import trading_day
from sqlalchemy import select
from trading_day import open_desk

from mlt_lib.errors import BrokerError, OrderError
from mlt_lib.execution import gateway, ledger
from mlt_lib.execution.answers import Outcome
from mlt_lib.execution.gateway import Sent
from mlt_lib.execution.ledger import UNSENT, acknowledge, claim, mark, orders_of
from mlt_lib.execution.steps import reached
from mlt_lib.store.schema import Fill


def new_id_on_retry(engine, client, namespace, facts, progress=None, sleep=None):
    "Sends again under a new id when no answer came."
    for tracked in orders_of(engine, namespace, states=UNSENT):
        claim(engine, tracked.client_order_id, facts.now)
        for cid in (tracked.client_order_id, f"mlt-{uuid4().hex}"):
            try:
                answer = client.submit(replace(tracked.intent, client_order_id=cid))
                break
            except Outcome:
                continue
        if answer.client_order_id == tracked.client_order_id:
            acknowledge(engine, answer, "accepted", facts.now)
    return Sent(())


def commit_after_send(engine, client, namespace, facts, progress=None, sleep=None):
    "Draws an id, sends, and only then writes anything down."
    for tracked in orders_of(engine, namespace, states=UNSENT):
        client.submit(replace(tracked.intent, client_order_id=f"mlt-{uuid4().hex}"))
        reached("after_post")
        mark(engine, tracked.client_order_id, "WORKING", "accepted", "sent", facts.now)
    return Sent(())


def unknown_is_refused(engine, client, namespace, facts, progress=None, sleep=None):
    "Takes silence for a refusal."
    for tracked in orders_of(engine, namespace, states=UNSENT):
        claim(engine, tracked.client_order_id, facts.now)
        try:
            acknowledge(engine, client.submit(tracked.intent), "accepted", facts.now)
        except Outcome as outcome:
            mark(engine, tracked.client_order_id, "DEAD", "refused", str(outcome), facts.now)
    return Sent(())


def blind_retry(engine, client, namespace, facts, progress=None, sleep=None):
    "Sends until it gets an answer and takes 'must be unique' for a failure."
    for tracked in orders_of(engine, namespace, states=UNSENT):
        claim(engine, tracked.client_order_id, facts.now)
        for _ in range(2):
            try:
                acknowledge(engine, client.submit(tracked.intent), "accepted", facts.now)
                break
            except Outcome as outcome:
                why = str(outcome)
        else:
            mark(engine, tracked.client_order_id, "DEAD", "refused", why, facts.now)
    return Sent(())


PLANTED = {
    "new id on a retry": (new_id_on_retry, None, "drop_after", "doubled"),
    "commit after send": (commit_after_send, ("after_post", 1), None, "doubled"),
    "unknown taken for refused": (unknown_is_refused, None, "drop_before", "lost"),
    "duplicate taken for refused": (blind_retry, None, "504_after", "believed dead"),
}


def what_the_harness_says(desk, crash, fault) -> list[str]:
    "Two sessions with the fault in the first; the disagreements or the halt that they end in."
    found = []
    try:
        desk.session(desk.prices.index[0].date(), crash, fault)
        found += desk.disagreements(settled=False)
        desk.session(desk.prices.index[1].date())
        return found + desk.disagreements(settled=False)
    except (BrokerError, OrderError) as error:
        return [*found, str(error)]


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_caught(tmp_path, name):
    send, crash, fault, caught = PLANTED[name]
    desk = open_desk(tmp_path, 4, send=send)
    with desk.exchange:
        assert any(said.startswith(caught) for said in what_the_harness_says(desk, crash, fault))


def test_the_real_path_passes_what_catches_them(tmp_path):
    desk = open_desk(tmp_path, 4, send=gateway.send)
    with desk.exchange:
        assert what_the_harness_says(desk, ("after_post", 1), "drop_after") == []


def test_a_fill_booked_twice_is_caught(tmp_path, monkeypatch):
    "Fills keyed at random and quantities not monotone: the next session's gate halts."
    book = ledger._book

    def careless(session, row, order, kind, market_time):
        done = book(session, row, order, kind, market_time)
        session.flush()
        for fill in session.scalars(select(Fill).filter_by(client_order_id=row.client_order_id)).all():
            columns = {column.name: getattr(fill, column.name) for column in Fill.__table__.columns}
            session.add(Fill(**columns | {"execution_key": uuid4().hex}))
        return done

    desk = open_desk(tmp_path, 4)
    with desk.exchange:
        days = [day.date() for day in desk.prices.index[:3]]
        desk.session(days[0])
        monkeypatch.setattr(ledger, "_book", careless)
        with pytest.raises(BrokerError, match="HALT .* AAA"):
            desk.session(days[1])


def test_a_millionth_of_a_dollar_is_a_disagreement(tmp_path, monkeypatch):
    "Cash kept as a float would be seen: the harness compares exactly."
    desk = open_desk(tmp_path, 3)
    with desk.exchange:
        desk.session(desk.prices.index[0].date())
        desk.wanted = lambda session, held: []
        desk.session(desk.prices.index[1].date())
        assert desk.disagreements() == []
        exact = trading_day.cash
        monkeypatch.setattr(trading_day, "cash", lambda *a: exact(*a) + Decimal("0.000001"))
        assert [said[:4] for said in desk.disagreements()] == ["cash"]
