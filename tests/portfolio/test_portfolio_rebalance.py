"""Whole-share trades: never more than the targets, nothing held forgotten, nothing invented."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError, OrderError
from mlt_lib.portfolio.rebalance import rebalance

SYMBOLS = list("ABCDE")
weights = st.lists(st.floats(0, 0.2), min_size=5, max_size=5)
prices = st.lists(st.floats(0.5, 900).map(lambda p: round(p, 3)), min_size=5, max_size=5)
holdings = st.lists(st.integers(0, 900), min_size=5, max_size=5)


def after(held, trades):
    sign = {"buy": 1, "sell": -1}
    book = dict(held)
    for trade in trades:
        book[trade.symbol] = book.get(trade.symbol, Decimal(0)) + sign[trade.side] * trade.quantity
    return book


@settings(max_examples=120, deadline=None)
@given(weights, prices, holdings, st.sampled_from([0, 100, 5000]))
def test_trades_reach_the_targets_within_a_share_or_the_smallest_order(w, p, q, smallest):
    targets, held = pd.Series(w, SYMBOLS), {s: Decimal(n) for s, n in zip(SYMBOLS, q, strict=True)}
    price = pd.Series(p, SYMBOLS)
    equity = Decimal(1_000_000)
    trades = rebalance(targets, held, price, equity, Decimal(smallest))
    book = after(held, trades)
    for symbol in SYMBOLS:
        wanted, each = Decimal(str(targets[symbol])) * equity, Decimal(str(price[symbol]))
        gap = wanted - book[symbol] * each
        if targets[symbol] == 0:
            assert book[symbol] == 0
        else:
            assert gap < max(each, Decimal(smallest) + each)
            assert gap >= 0 or -gap < Decimal(smallest) + each
    for trade in trades:
        assert trade.quantity > 0 and trade.quantity == trade.quantity.to_integral_value()
        assert trade.value == trade.quantity * trade.price
        assert trade.value >= smallest or targets[trade.symbol] == 0
        assert isinstance(trade.price, Decimal) and isinstance(trade.value, Decimal)


@settings(max_examples=60, deadline=None)
@given(weights, prices, holdings)
def test_a_second_rebalance_has_nothing_to_do(w, p, q):
    targets, price = pd.Series(w, SYMBOLS), pd.Series(p, SYMBOLS)
    held = {s: Decimal(n) for s, n in zip(SYMBOLS, q, strict=True)}
    book = after(held, rebalance(targets, held, price, Decimal(1_000_000)))
    assert rebalance(targets, book, price, Decimal(1_000_000)) == ()


def test_sales_come_first_then_by_symbol_whatever_the_order_given():
    targets = pd.Series({"D": 0.2, "A": 0.2, "C": 0.01, "B": 0.01})
    held = {"C": Decimal(900), "B": Decimal(900)}
    trades = rebalance(targets, held, pd.Series(10.0, list("ABCD")), Decimal(20_000))
    assert [(t.side, t.symbol) for t in trades] == [("sell", "B"), ("sell", "C"), ("buy", "A"), ("buy", "D")]


def test_a_name_not_targeted_is_sold_with_its_fraction_however_small():
    trades = rebalance(
        pd.Series({"A": 0.5}), {"GONE": Decimal("0.25")}, pd.Series({"A": 1.0, "GONE": 2.0}), Decimal(10)
    )
    assert [(t.symbol, t.side, t.quantity, t.to_weight) for t in trades] == [("GONE", "sell", Decimal("0.25"), 0.0)]


def test_a_fraction_that_stays_is_left_alone():
    trades = rebalance(pd.Series({"A": 0.5}), {"A": Decimal("10.5")}, pd.Series({"A": 10.0}), Decimal(1000))
    assert [t.quantity for t in trades] == [Decimal(39)]  # 50 wanted, 39.5 missing, whole shares only


def test_weights_are_of_the_book_before_and_after():
    (trade,) = rebalance(pd.Series({"A": 0.3}), {"A": Decimal(10)}, pd.Series({"A": 10.0}), Decimal(1000))
    assert (trade.from_weight, trade.to_weight) == (0.1, 0.3)


@pytest.mark.parametrize("price", [np.nan, 0.0, -1.0, np.inf])
@pytest.mark.parametrize("targets, held", [({"B": 0.1}, {}), ({}, {"B": Decimal(3)})])
def test_no_price_no_list(price, targets, held):
    with pytest.raises(DataError, match="B"):
        rebalance(pd.Series(targets, dtype=float), held, pd.Series({"A": 1.0, "B": price}), Decimal(1000))


def test_a_name_neither_held_nor_wanted_needs_no_price():
    assert rebalance(pd.Series({"B": 0.0}), {"C": Decimal(0)}, pd.Series({"A": 1.0}), Decimal(1000)) == ()


@pytest.mark.parametrize("target", [-0.1, np.nan, np.inf])
def test_a_target_that_is_no_long_position_is_refused(target):
    with pytest.raises(OrderError, match="A"):
        rebalance(pd.Series({"A": target}), {}, pd.Series({"A": 1.0}), Decimal(1000))


@pytest.mark.parametrize("equity", ["0", "-5", "NaN", "Infinity"])
def test_a_book_without_equity_is_refused(equity):
    with pytest.raises(DataError, match="equity"):
        rebalance(pd.Series({"A": 0.1}), {}, pd.Series({"A": 1.0}), Decimal(equity))
