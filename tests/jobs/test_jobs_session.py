"The step: live equals backtest, a second time changes nothing, a crash anywhere loses and doubles nothing."

import contextlib
from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlt_lib.errors import BrokerError, DataError, SettingsError
from mlt_lib.execution.ledger import orders_of
from mlt_lib.execution.positions import cash, fills_of, holdings, performance
from mlt_lib.execution.steps import LABELS, Crash, listening
from mlt_lib.execution.targets import first_live_session, targets_of
from mlt_lib.jobs.review import review, sentence
from mlt_lib.jobs.session import account_drawdown, known_prices, limits_now, open_desk, recipe_of, require_clock
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


def shares_traded(world):
    "All shares that changed hands: the broker's average prices are rounded to four decimals."
    engine = world.engine
    try:
        return sum(fills_of(engine, "demo")["quantity"], Decimal(0))
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
    assert abs(Decimal(told["cash"]) - money) <= Decimal("0.01") + Decimal("0.00005") * shares_traded(world)
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
    engine = world.engine
    page = review(engine, world.settings, "demo", "2022-12-21")
    after = review(engine, world.settings, "demo", END)
    engine.dispose()
    assert (
        page.limits.loc["1-day VaR, 99 %", "light"] == "breach" and page.after.empty
    )  # what was asked for, what is left
    assert sentence(page)[0] == "breach" and "not sent" in sentence(page)[1]
    assert sentence(after)[0] == "held" and "21 December 2022" in sentence(after)[1]  # not forgotten two days later


SHORT = "[universe]\nfirst_session = 2019-01-02\n[report]\ntrack_record_start = 2022-09-01\n"
SHORT_WITH_A_TIGHT_LIMIT = "[universe]\nfirst_session = 2019-01-02\n[risk]\nmax_var_99_1d_share = 0.005\n[report]\ntrack_record_start = 2022-09-01\n"


def test_sending_switched_off_sends_nothing(make_world):
    world = make_world(
        "[universe]\nfirst_session = 2019-01-02\n[execution]\nsubmit_simulated = no\n[report]\ntrack_record_start = 2022-09-01\n"
    )
    end = pd.Timestamp("2022-12-21")
    assert world.run(known(world, end), 4)["posts"] == 0
    ready = world.steps[-1].sent.unsettled
    assert ready and {o.state for o in ready} == {"INTENT"} and world.steps[-1].sent.accepted == ()
    (world.root / "settings.ini").write_text(SHORT)
    world.settings = Settings.find(world.root / "settings.ini")
    told = world.run(known(world, end), 4)  # switched on the same evening: the very orders go out
    assert {o.client_order_id for o in world.steps[-1].sent.accepted} == {o.client_order_id for o in ready}
    assert told["accepted"] == len(ready)


def test_orders_that_were_not_sent_in_time_lapse_and_change_no_weight(make_world):
    world = make_world(SHORT + "[execution]\nsubmit_simulated = no\n")
    told = world.run(known(world), 4)
    engine = world.engine
    states = {o.state for o in orders_of(engine, "demo")}
    seen = review(engine, world.settings, "demo", END)
    engine.dispose()
    assert told["posts"] == 0 and states == {"LAPSED"}
    assert seen.weights.empty and seen.after.empty and seen.limits.loc["gross exposure", "value"] == 0


@pytest.mark.parametrize("shown", ["2022-12-22", "2022-12-27"])
def test_a_session_that_the_brokers_clock_does_not_show_is_refused(make_world, shown):
    world = make_world()
    told = SimpleNamespace(client=SimpleNamespace(clock=lambda: SimpleNamespace(session=date.fromisoformat(shown))))
    with pytest.raises(BrokerError, match=f"stands at {shown}, not at 2022-12-23"):
        require_clock(told, pd.Timestamp("2022-12-23"))
    require_clock(told, pd.Timestamp(shown))
    assert not list(world.root.glob("reports"))


def test_a_second_book_on_a_real_account_is_refused(make_world):
    world = make_world(SHORT + "[execution]\nbroker = paper\nrest_url = http://127.0.0.1:9\n")
    with pytest.raises(SettingsError, match="one book"), open_desk(world.settings, "demo2"):
        pass


def test_another_universe_decides_on_its_own_names_only(make_world):
    world = make_world()  # stores all twenty
    names = ["AAPL", "JNJ", "KO", "MRK", "PFE", "PG", "WMT", "XOM"]
    (world.root / "settings.ini").write_text(SHORT.replace("[report]", f"symbols = {', '.join(names)}\n[report]"))
    world.settings = Settings.find(world.root / "settings.ini")
    engine = world.engine
    try:
        seen = known_prices(engine, world.settings, END, 300)
        assert list(seen.columns) == names and len(seen) == 300
        assert known_prices(engine, world.settings, END).index[0] == pd.Timestamp("2019-01-02")
    finally:
        engine.dispose()


def test_the_six_limits_are_what_the_book_says():
    days = pd.bdate_range("2020-01-01", periods=600)
    moves = np.random.default_rng(5).normal(0, 0.01, (600, 2))
    prices = pd.DataFrame(100 * np.exp(moves.cumsum(axis=0)), days, ["A", "B"])
    now, after = pd.Series({"A": 0.5, "B": 0.2}), pd.Series({"A": 0.3, "B": 0.6})
    table = limits_now(Settings.find(environment={}), prices, now, after, -0.07)
    returns = prices.pct_change().iloc[-504:] @ after
    expected = {
        "gross exposure": 0.9,
        "net exposure": 0.9,
        "largest name": 0.6,
        "1-day VaR, 99 %": -np.sort(returns)[5],  # the sixth worst of 504: the first that at least 1 % reach
        "drawdown": 0.07,
        "turnover to trade": 0.2,  # the lesser of 0.4 bought and 0.2 sold
    }
    assert table["value"].to_dict() == pytest.approx(expected, abs=1e-12)


def test_the_accounts_fall_is_from_its_peak_up_to_the_session(make_world):
    world = make_world()
    world.run(known(world), 8)
    engine = world.engine
    equity = performance(engine, "demo")["equity"].astype(float)
    fall = account_drawdown(engine, "demo", equity.index[-2])
    engine.dispose()
    assert fall == pytest.approx(equity.iloc[-2] / equity.iloc[:-1].max() - 1) and equity.min() < 1_000_000


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
