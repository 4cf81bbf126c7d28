"The step: live equals backtest, a second time changes nothing, a crash anywhere loses and doubles nothing."

import contextlib
from decimal import Decimal

import pandas as pd
import pytest

from mlt_lib.errors import BrokerError, DataError
from mlt_lib.exchange.process import start_exchange
from mlt_lib.execution.ledger import orders_of
from mlt_lib.execution.positions import cash, fills_of, holdings, performance
from mlt_lib.execution.steps import LABELS, Crash, listening
from mlt_lib.execution.targets import first_live_session, targets_of
from mlt_lib.jobs.session import known_prices, open_desk, recipe_of, step
from mlt_lib.settings import Settings
from mlt_lib.store.audit import verify
from mlt_lib.strategies.ensemble import weights

END = pd.Timestamp("2022-12-23")


def known(world, until=END):
    "The sessions up to a date."
    return world.prices.index[world.prices.index <= until]


def book(world):
    "What the ledger holds at the end: orders with their states, shares, money."
    engine = world.engine
    try:
        orders = {o.client_order_id: (o.state, o.filled_quantity) for o in orders_of(engine, "demo")}
        money = cash(engine, "demo", Decimal(world.settings.execution.starting_cash_usd))
        assert verify(engine).ok
        return orders, holdings(engine, "demo"), money, performance(engine, "demo")
    finally:
        engine.dispose()


@pytest.mark.parametrize("rhythm", ["weekly", "daily"])
def test_twenty_live_sessions_decide_what_the_backtest_decides(make_world, rhythm):
    start = "2022-11-01" if rhythm == "daily" else "2022-09-01"
    text = f"[universe]\nfirst_session = 2019-01-02\n[strategy]\ndecide = {rhythm}\n[report]\ntrack_record_start = {start}\n"
    world = make_world(text)
    sessions = world.prices.index
    world.run(sessions, 20)
    backtested = weights(world.prices, recipe_of(world.settings), start=start)
    engine = world.engine
    live = targets_of(engine, "demo", "ensemble", since=sessions[-20].date())
    first = first_live_session(engine, "demo", "ensemble")
    engine.dispose()
    same_dates = backtested.loc[backtested.index >= sessions[-20], live.columns]
    assert len(live) == (20 if rhythm == "daily" else 5)
    assert list(live.index) == list(same_dates.index) and first == live.index[0]
    assert int((live.to_numpy() != same_dates.to_numpy()).sum()) == 0
    assert live.to_numpy().sum() > 0


def test_the_books_agree_and_a_second_run_changes_nothing(make_world):
    world = make_world()
    told = world.run(known(world), 5)
    orders, held, money, rows = book(world)
    assert told["accepted"] == len(orders) > 0 and told["posts"] == len(orders)
    assert {symbol: Decimal(quantity) for symbol, quantity in told["positions"].items()} == held
    assert abs(Decimal(told["cash"]) - money) < 1
    again = world.run(known(world), 5)
    assert again["posts"] == 0 and again["accepted"] == told["accepted"]
    fresh = book(world)
    assert fresh[:3] == (orders, held, money)
    pd.testing.assert_frame_equal(fresh[3], rows)


def test_the_last_decision_waits_and_the_gap_between_the_books_is_small(make_world):
    world = make_world()
    world.run(known(world, pd.Timestamp("2022-12-21")), 10)
    waiting = [o for o in world.steps[-1].recorded.orders if world.steps[-1].sent.orders]
    assert waiting and {o.state for o in world.steps[-1].sent.orders} == {"WORKING"}
    gap = world.steps[-1].photo.book_gap
    assert 0 < gap < 0.01


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    "What three sessions come to when nothing goes wrong."
    return {}


@pytest.mark.parametrize(("label", "nth"), [*((label, 1) for label in LABELS), ("after_post", 4), ("inside_fills", 2)])
def test_a_crash_anywhere_loses_and_doubles_nothing(make_world, straight, label, nth):
    if "told" not in straight:
        clean = make_world(name="clean")
        straight["told"], straight["book"] = clean.run(known(clean), 4), book(clean)
    world, reached = make_world(), []

    def pull_the_plug(step_label):
        if step_label == label:
            reached.append(step_label)
            if len(reached) == nth:
                raise Crash(label)

    with listening(pull_the_plug), contextlib.suppress(Crash):
        world.run(known(world), 4)
    told = world.run(known(world), 4)
    orders, held, money, rows = book(world)
    clean_orders, clean_held, clean_money, clean_rows = straight["book"]
    assert len(reached) >= nth
    assert told["accepted"] == straight["told"]["accepted"] == len(orders)
    assert (orders, held, money) == (clean_orders, clean_held, clean_money)
    pd.testing.assert_frame_equal(rows, clean_rows)
    engine = world.engine
    assert len(fills_of(engine, "demo")) == told["fills"]
    engine.dispose()


def test_orders_beyond_a_limit_are_held_and_said(make_world):
    world = make_world(SHORT_WITH_A_TIGHT_LIMIT)
    told = world.run(known(world), 4)
    stopped = [o for s in world.steps for o in s.sent.stopped]
    assert stopped and all("limit_breached" in o.reason for o in stopped)
    assert told["accepted"] == 0 and told["posts"] == 0


SHORT_WITH_A_TIGHT_LIMIT = (
    "[universe]\nfirst_session = 2019-01-02\n[risk]\nmax_name_share = 0.10\n[report]\ntrack_record_start = 2022-09-01\n"
)


def test_sending_switched_off_sends_nothing(make_world):
    world = make_world(
        "[universe]\nfirst_session = 2019-01-02\n[execution]\nsubmit_simulated = no\n[report]\ntrack_record_start = 2022-09-01\n"
    )
    told = world.run(known(world), 4)
    stopped = [o for s in world.steps for o in s.sent.stopped]
    assert stopped and all("submit_off" in o.reason for o in stopped)
    assert told["posts"] == 0


def test_a_session_that_the_broker_does_not_show_is_refused(make_world, tmp_path):
    world = make_world()
    tape = tmp_path / "tape.csv.gz"
    world.prices.iloc[-10:].to_csv(tape)
    with (
        start_exchange(tmp_path / "x.db", tape, "demo", 1_000_000, 2.5, "2022-12-27") as exchange,
        open_desk(world.settings, "demo", exchange.rest_url) as desk,
        pytest.raises(BrokerError, match="backward|behind|2022-12-27"),
    ):
        step(desk, "2022-12-23")


def test_prices_that_were_not_known_yet_are_an_error(make_world):
    world = make_world()
    engine = world.engine
    try:
        with pytest.raises(DataError, match="2023-01-03 were known"):
            known_prices(engine, world.settings, pd.Timestamp("2023-01-03"))
        early = known_prices(engine, world.settings, pd.Timestamp("2022-06-01"), 30)
        assert early.index[-1] == pd.Timestamp("2022-06-01") and len(early) == 30
    finally:
        engine.dispose()


def test_a_desk_without_an_address_says_so(make_world):
    world = make_world()
    with pytest.raises(BrokerError, match="rest_url"), open_desk(Settings.find(world.root / "settings.ini")):
        pass
