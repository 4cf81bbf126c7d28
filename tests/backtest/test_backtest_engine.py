"""The vectorised engine against a loop that does one day at a time."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.backtest.costs import ProportionalCost
from mlt_lib.backtest.engine import Backtest, backtest
from mlt_lib.errors import DataError, SettingsError

SYMBOLS = list("ABCD")


def sessions(n):
    return pd.bdate_range("2020-01-01", periods=n)


def day_by_day(weights, prices, cost, capital, opens=None):
    "Wealth, weights, costs and trades: one session at a time, in plain Python, costs by bisection."
    last, shares, cash = {}, {}, capital
    waiting, begun = None, False
    wealth, held, paid, traded = {}, {}, {}, {}
    for day in prices.index:
        if waiting is not None:
            fill = {s: (opens if opens is not None else prices).at[day, s] for s in prices.columns}
            value = {s: shares.get(s, 0.0) * fill[s] if shares.get(s, 0.0) else 0.0 for s in prices.columns}
            book = cash + sum(value.values())

            def left(after, book=book, value=value, target=waiting):
                return book - cost * sum(abs(target[s] * after - value[s]) for s in target) - after

            low, high = 0.0, 2 * book
            for _ in range(200):
                middle = (low + high) / 2
                low, high = (middle, high) if left(middle) > 0 else (low, middle)
            after = (low + high) / 2
            traded[day] = {s: waiting[s] * after - value[s] for s in waiting}
            paid[day] = book - after
            shares = {s: waiting[s] * after / fill[s] for s in waiting if waiting[s]}
            cash = after - sum(waiting[s] * after for s in waiting)
            waiting = None
        for s in prices.columns:
            if not np.isnan(prices.at[day, s]):
                last[s] = prices.at[day, s]
        if day in weights.index:
            waiting, begun = dict(weights.loc[day]), True
        if begun:
            wealth[day] = cash + sum(q * last[s] for s, q in shares.items())
            held[day] = {s: shares.get(s, 0.0) * last.get(s, 0.0) / wealth[day] for s in prices.columns}
    frame = pd.DataFrame.from_dict
    return (
        pd.Series(wealth),
        frame(held, orient="index"),
        pd.Series(paid, dtype=float),
        frame(traded, orient="index"),
        waiting,
    )


@st.composite
def markets(draw):
    n = draw(st.integers(2, 25))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    prices = pd.DataFrame(np.exp(random.normal(0, 0.03, (n, 4)).cumsum(0)) * 50, sessions(n), SYMBOLS)
    opens = prices * np.exp(random.normal(0, 0.01, (n, 4)))
    rows = sorted(draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=n)))
    raw = random.uniform(-1 if draw(st.booleans()) else 0, 1, (len(rows), 4)) * random.integers(0, 2, (len(rows), 4))
    raw = raw / np.maximum(np.abs(raw).sum(1), 1e-9)[:, None] * random.uniform(0, 1, (len(rows), 1))
    return pd.DataFrame(raw, prices.index[rows], SYMBOLS), prices, opens


@settings(max_examples=80, deadline=None)
@given(markets(), st.sampled_from([0.0, 0.0003, 0.02]), st.booleans())
def test_the_engine_equals_one_day_at_a_time(market, cost, at_open):
    weights, prices, opens = market
    execution = {"execution": "next_open", "opens": opens} if at_open else {}
    ours = backtest(weights, prices, cost, 1e6, **execution)
    wealth, held, paid, traded, waiting = day_by_day(weights, prices, cost, 1e6, opens if at_open else None)
    pd.testing.assert_series_equal(ours.wealth, wealth, rtol=1e-10, check_names=False, check_freq=False)
    np.testing.assert_allclose(ours.weights, held, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours.costs, paid, rtol=0, atol=1e-10 * 1e6)
    if len(paid):
        np.testing.assert_allclose(ours.trades, traded, rtol=0, atol=1e-10 * 1e6)
    np.testing.assert_allclose(ours.returns, wealth.pct_change().iloc[1:], rtol=0, atol=1e-10)
    assert ours.pending.to_dict() == (waiting or {})


@settings(max_examples=30, deadline=None)
@given(markets(), st.integers(1, 24))
def test_the_past_does_not_know_the_future(market, cut):
    weights, prices, _ = market
    cut = min(cut, len(prices) - 1)
    seen = prices.iloc[: cut + 1]
    known = weights.loc[weights.index <= seen.index[-1]]
    if known.empty:
        return
    whole, part = backtest(weights, prices, 0.001), backtest(known, seen, 0.001)
    assert whole.wealth.reindex(part.wealth.index).equals(part.wealth)


@settings(max_examples=30, deadline=None)
@given(markets())
def test_capital_is_only_a_unit(market):
    weights, prices, _ = market
    small, large = backtest(weights, prices, 0.001, 1.0), backtest(weights, prices, 0.001, 1e9)
    np.testing.assert_allclose(large.wealth / 1e9, small.wealth, rtol=1e-12)
    np.testing.assert_allclose(large.turnover, small.turnover, rtol=1e-9, atol=1e-14)


def test_costs_and_turnover_add_up():
    prices = pd.DataFrame({"A": [10.0] * 5, "B": [20.0] * 5}, sessions(5))
    weights = pd.DataFrame({"A": [1.0, 0.4], "B": [0.0, 0.6]}, prices.index[[0, 2]])
    result = backtest(weights, prices, [ProportionalCost(5, 10)], 1000.0)
    assert result.turnover.to_list() == pytest.approx([0.0, 0.6], abs=1e-3)
    np.testing.assert_allclose(result.costs, 0.001 * result.trades.abs().sum(axis=1))
    assert result.wealth.iloc[-1] == pytest.approx(1000 - result.costs.sum())
    assert result.wealth.iloc[0] == result.wealth.iloc[0] == 1000.0


def test_a_missing_symbol_column_means_no_position():
    prices = pd.DataFrame({"A": [10.0, 10, 11], "B": [20.0, 20, 30]}, sessions(3))
    result = backtest(pd.DataFrame({"B": [0.5]}, prices.index[:1]), prices)
    assert result.wealth.iloc[-1] == pytest.approx(1_250_000)
    assert (result.weights["A"] == 0).all()


def test_a_decision_on_the_last_row_waits():
    prices = pd.DataFrame({"A": [10.0, 11.0]}, sessions(2))
    result = backtest(pd.DataFrame({"A": [0.7]}, prices.index[1:]), prices)
    assert result.pending.to_dict() == {"A": 0.7} and result.pending.name == prices.index[1]
    assert result.wealth.to_list() == [1_000_000.0] and result.returns.empty and result.costs.empty
    assert "pending" in result._repr_html_()
    assert backtest(pd.DataFrame({"A": [0.7]}, prices.index[:1]), prices).pending.empty


def test_a_held_name_without_a_price_is_carried_and_cannot_be_traded():
    prices = pd.DataFrame({"A": [10.0, 10.0, np.nan, 12.0], "B": [5.0] * 4}, sessions(4))
    once = pd.DataFrame({"A": [1.0]}, prices.index[:1])
    assert backtest(once, prices).wealth.to_list() == pytest.approx([1e6, 1e6, 1e6, 1.2e6])
    twice = pd.DataFrame({"A": [1.0, 0.5]}, prices.index[:2])
    with pytest.raises(DataError, match="A on 2020-01-03"):
        backtest(twice, prices)


def test_a_name_before_its_first_price_may_be_named_with_no_weight():
    prices = pd.DataFrame({"A": [np.nan, np.nan, 10.0], "B": [5.0, 5.0, 6.0]}, sessions(3))
    result = backtest(pd.DataFrame({"A": [0.0], "B": [1.0]}, prices.index[:1]), prices)
    assert result.wealth.iloc[-1] == pytest.approx(1.2e6) and not result.weights.isna().any().any()


def test_next_open_needs_opens_and_fills_at_them():
    prices = pd.DataFrame({"A": [10.0, 12.0, 12.0]}, sessions(3))
    weights = pd.DataFrame({"A": [1.0]}, prices.index[:1])
    with pytest.raises(DataError, match="closes only"):
        backtest(weights, prices, execution="next_open")
    with pytest.raises(DataError, match="same sessions"):
        backtest(weights, prices, execution="next_open", opens=prices.iloc[1:])
    result = backtest(weights, prices, execution="next_open", opens=prices - 2)
    assert result.wealth.to_list() == pytest.approx([1e6, 1.2e6, 1.2e6])


PRICES = pd.DataFrame({"A": [10.0, 11.0, 12.0], "B": [20.0, 21.0, 22.0]}, sessions(3))


@pytest.mark.parametrize(
    "weights, options, error, message",
    [
        (pd.DataFrame({"Z": [0.5]}, PRICES.index[:1]), {}, DataError, "Z"),
        (pd.DataFrame({"A": [np.nan]}, PRICES.index[:1]), {}, DataError, "A on 2020-01-01"),
        (pd.DataFrame({"A": [0.1]}, [pd.Timestamp("2020-01-04")]), {}, DataError, "2020-01-04"),
        (pd.DataFrame({"A": [0.7], "B": [-0.4]}, PRICES.index[:1]), {}, DataError, "2020-01-01.*largest: A"),
        (pd.DataFrame({"A": [0.1, 0.2]}, PRICES.index[[1, 0]]), {}, DataError, "increase"),
        (pd.DataFrame({"A": [0.1, 0.2]}, PRICES.index[[0, 0]]), {}, DataError, "repeat"),
        (pd.DataFrame({"A": []}, PRICES.index[:0]), {}, DataError, "at least one decision"),
        (pd.DataFrame({"A": [0.5]}, PRICES.index[:1]), {"execution": "now"}, SettingsError, "next_close"),
        (pd.DataFrame({"A": [0.5]}, PRICES.index[:1]), {"costs": 5}, SettingsError, "basis points"),
    ],
)
def test_weights_that_have_no_safe_meaning_are_refused(weights, options, error, message):
    with pytest.raises(error, match=message):
        backtest(weights, PRICES, **options)


def test_leverage_is_allowed_by_name_and_may_ruin():
    weights = pd.DataFrame({"A": [2.0]}, PRICES.index[:1])
    assert backtest(weights, PRICES, max_gross=2).wealth.iloc[-1] == pytest.approx(1e6 * (1 + 2 * (12 / 11 - 1)))
    falling = PRICES.assign(A=[10.0, 10.0, 4.0])
    with pytest.raises(DataError, match="2020-01-03"):
        backtest(weights, falling, max_gross=2)
    again = pd.DataFrame({"A": [2.0, 2.0]}, PRICES.index[:2])
    with pytest.raises(DataError, match="2020-01-03"):
        backtest(again, falling, max_gross=2)


def test_the_result_shows_itself():
    random = np.random.default_rng(1)
    prices = pd.DataFrame(np.exp(random.normal(0, 0.02, (300, 2)).cumsum(0)), sessions(300), ["A", "B"])
    result = backtest(pd.DataFrame({"A": 0.5, "B": 0.5}, prices.index[::21]), prices, 0.0005)
    assert isinstance(result, Backtest)
    summary = result.summary()
    assert summary["costs a year"] == pytest.approx((result.costs.sum() / 1e6) * 252 / 299, rel=0.3)
    assert "net of costs" in result._repr_html_() and "Sharpe" in result._repr_html_()
    assert repr(result).startswith("Backtest(2020-01-01 to ")
    axes = result.plot()
    assert len(axes) == 2 and axes[0].get_shared_x_axes().joined(*axes)
    import matplotlib.pyplot as plt

    plt.close(axes[0].figure)
