"No order lost and none doubled: every step of the path as a crash, times every fault of the wire, on the real exchange."

from itertools import product

import pytest
from trading_day import CASH, NAMESPACE, open_desk

from mlt_lib.exchange.process import counters
from mlt_lib.execution.ledger import orders_of
from mlt_lib.execution.reconcile import reconcile
from mlt_lib.execution.steps import LABELS
from mlt_lib.store.audit import head

FAULTS = (None, "drop_before", "drop_after", "504_after", "500_before")
CASES = [(label, 1, fault) for label, fault in product(LABELS, FAULTS)]
CASES += [(label, n, fault) for label, n, fault in product(LABELS[3:7], (2, 3), ("drop_after", "504_after"))]


CASES += [("after_post", 1, "hang_after")]  # the desk stops waiting after two seconds
LAST = len(CASES)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    desk = open_desk(tmp_path_factory.mktemp("once"), LAST + 2)
    with desk.exchange:
        desk.session(desk.prices.index[0].date())
        yield desk


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}:{c[1]}-{c[2]}")
def test_a_crash_anywhere_loses_and_doubles_nothing(desk, case):
    label, count, fault = case
    day = desk.prices.index[1 + CASES.index(case)].date()
    assert desk.session(day, (label, count), fault) == 1, "the drill must happen"
    assert counters(desk.exchange.rest_url)["faults_left"] == 0, "the fault must hit"
    assert desk.disagreements(settled=False) == []


def test_the_whole_history_agrees_in_the_end(desk):
    desk.wanted = lambda session, held: []
    desk.session(desk.prices.index[LAST + 1].date())
    assert desk.disagreements() == []
    orders = orders_of(desk.engine, NAMESPACE)
    truth = counters(desk.exchange.rest_url)
    assert truth["accepted"] == truth["fills"] == len(orders)
    assert truth["posts"] > len(orders), "some orders were sent more than once, under the same id"


def test_a_settled_ledger_is_left_alone(desk):
    "Reconciling again, and running the last session again, writes nothing and sends nothing."
    before, posts = head(desk.engine), counters(desk.exchange.rest_url)["posts"]
    for _ in range(2):
        assert reconcile(desk.engine, desk.client(), NAMESPACE, CASH).fills == 0
        assert desk.step(desk.prices.index[LAST + 1].date()).orders == ()
    assert (head(desk.engine), counters(desk.exchange.rest_url)["posts"]) == (before, posts)
