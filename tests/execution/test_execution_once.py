"No order lost and none doubled: every step of the path as a crash, times every fault of the wire, on the real exchange."

from itertools import product

import pytest
from trading_day import open_desk

from mlt_lib.execution.steps import LABELS

FAULTS = (None, "drop_before", "drop_after", "504_after", "500_before")
CASES = [(label, 1, fault) for label, fault in product(LABELS, FAULTS)]
CASES += [(label, n, fault) for label, n, fault in product(LABELS[3:7], (2, 3), ("drop_after", "504_after"))]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    desk = open_desk(tmp_path_factory.mktemp("once"), 2 * len(CASES) + 3)
    with desk.exchange:
        desk.session(desk.prices.index[0].date())
        yield desk


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}:{c[1]}-{c[2]}")
def test_a_crash_anywhere_loses_and_doubles_nothing(desk, case):
    label, count, fault = case
    first = 1 + 2 * CASES.index(case)
    crash_day, next_day = (desk.prices.index[i].date() for i in (first, first + 1))
    assert desk.session(crash_day, (label, count), fault) == 1
    desk.session(next_day)
    assert desk.disagreements(settled=False) == []


def test_the_whole_history_agrees_in_the_end(desk):
    last = desk.prices.index[2 * len(CASES) + 1 : 2 * len(CASES) + 3]
    desk.session(last[0].date())
    desk.wanted = lambda session, held: []
    desk.session(last[1].date())
    assert desk.disagreements() == []
