"Real processes, really killed: the desk between answer and commit, or for a whole day, and the exchange itself."

import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from trading_day import CASH, NAMESPACE, open_desk

from mlt_lib.exchange.process import arm_fault, counters, start_exchange
from mlt_lib.execution.ledger import orders_of
from mlt_lib.execution.positions import cash, holdings
from mlt_lib.execution.steps import Crash, crashing

STEP = Path(__file__).with_name("trading_day.py")


def run(folder, session, crash_at="") -> int:
    "One session in a process of its own; how it ended."
    command = [sys.executable, "-W", "ignore", str(STEP), str(folder), f"{session:%Y-%m-%d}"]
    return subprocess.run(command, env=os.environ | {"MLT_CRASH_AT": crash_at}, capture_output=True).returncode


@pytest.mark.process
@pytest.mark.parametrize(("crash_at", "fault"), [("after_post:2", None), ("after_claim", "drop_after")])
def test_a_killed_desk_is_simply_run_again(tmp_path, crash_at, fault):
    desk = open_desk(tmp_path, 3)
    with desk.exchange:
        first, second, _ = desk.prices.index
        assert run(tmp_path, first, crash_at) == -9
        if fault:
            arm_fault(desk.exchange.rest_url, fault)
        assert run(tmp_path, first) == 0
        posts = counters(desk.exchange.rest_url)["posts"]
        assert desk.step(first.date()).orders == (), "and a third time nothing is sent"
        assert counters(desk.exchange.rest_url)["posts"] == posts
        desk.wanted = lambda session, held: []
        desk.session(second.date())
        assert desk.disagreements() == []
        assert counters(desk.exchange.rest_url)["accepted"] == 3


@pytest.mark.process
def test_a_desk_that_is_down_for_a_day_adopts_what_was_filled_and_sends_nothing_late(tmp_path):
    "It dies with one order acknowledged, one answered and not written down, one not sent; the exchange is killed too."
    desk = open_desk(tmp_path, 4)
    first, second, third, _ = (day.date() for day in desk.prices.index)
    with pytest.raises(Crash), crashing("after_post", 2):
        desk.step(first)
    os.kill(desk.exchange.pid, signal.SIGKILL)
    desk.exchange.stop()
    desk.exchange = start_exchange(tmp_path / "exchange.db", tmp_path / "tape.csv", "test", CASH, 2)
    with desk.exchange:
        desk.session(second)
        assert [order.state for order in orders_of(desk.engine, NAMESPACE, first)] == ["FILLED", "FILLED", "LAPSED"]
        assert all(order.state == "WORKING" for order in orders_of(desk.engine, NAMESPACE, second))
        desk.wanted = lambda session, held: []
        desk.session(third)
        truth = counters(desk.exchange.rest_url)
        assert {symbol: str(held) for symbol, held in holdings(desk.engine, NAMESPACE).items()} == truth["positions"]
        assert cash(desk.engine, NAMESPACE, CASH) == Decimal(truth["cash"])
