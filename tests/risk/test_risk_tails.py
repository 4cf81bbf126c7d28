"Value at risk is an order statistic, expected shortfall the average beyond; both behave as risk should."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError, SettingsError
from mlt_lib.risk.tails import book_returns, expected_shortfall, value_at_risk

returns_list = st.lists(st.floats(-0.9, 0.9).map(lambda r: round(r, 4)), min_size=1, max_size=60)
levels = st.integers(1, 99).map(lambda k: k / 100)
BOTH = (value_at_risk, expected_shortfall)


@settings(max_examples=80, deadline=None)
@given(values=returns_list, level=levels)
def test_value_at_risk_is_the_least_loss_that_enough_sessions_do_not_exceed(values, level):
    losses, n = -np.array(values), len(values)
    found = value_at_risk(pd.Series(values), level=level)
    assert found in losses
    assert (losses <= found).sum() >= level * n - 1e-9
    assert (losses < found).sum() < level * n


@pytest.mark.parametrize("n", [7, 10, 252, 1001])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.975, 0.99, 0.999])
def test_value_at_risk_is_numpys_inverted_cdf(n, level):
    returns = pd.Series(np.random.default_rng(n).normal(0, 0.01, n))
    assert value_at_risk(returns, level=level) == np.quantile(-returns, level, method="inverted_cdf")


def test_the_product_of_level_and_number_is_not_rounded_up_by_accident():
    assert 0.07 * 100 > 7
    assert value_at_risk(pd.Series(-np.arange(1, 101) / 1000), level=0.07) == 0.007
    assert value_at_risk(pd.Series(-np.arange(1, 101) / 1000), level=0.99) == 0.099


@settings(max_examples=80, deadline=None)
@given(values=returns_list, level=levels)
def test_expected_shortfall_is_the_mean_of_the_quantiles_beyond(values, level):
    "The integral over levels, done exactly: each sorted loss counts with the part of its 1/n that lies beyond the level."
    n = len(values)
    edges = np.clip(np.arange(n + 1) / n, level, 1)
    integral = (np.sort(-np.array(values)) * np.diff(edges)).sum() / (1 - level)
    assert expected_shortfall(pd.Series(values), level=level) == pytest.approx(integral, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(values=returns_list, low=levels, high=levels)
def test_a_higher_level_never_shows_less_risk(values, low, high):
    low, high = sorted((low, high))
    returns = pd.Series(values)
    for measure in BOTH:
        assert measure(returns, level=low) <= measure(returns, level=high) + 1e-12
    assert expected_shortfall(returns, level=low) >= value_at_risk(returns, level=low) - 1e-12


@settings(max_examples=60, deadline=None)
@given(values=returns_list, level=levels, factor=st.floats(0.0, 1.0), cash=st.floats(-0.05, 0.05))
def test_risk_scales_with_the_book_and_moves_with_cash(values, level, factor, cash):
    returns = pd.Series(values)
    for measure in BOTH:
        assert measure(returns * factor, level=level) == pytest.approx(
            factor * measure(returns, level=level), abs=1e-12
        )
        assert measure(returns + cash, level=level) == pytest.approx(measure(returns, level=level) - cash, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)), min_size=1, max_size=40), levels)
def test_two_books_together_have_no_more_shortfall_than_apart(pairs, level):
    one, two = (pd.Series(column) for column in zip(*pairs, strict=True))
    together = expected_shortfall(one + two, level=level)
    assert together <= expected_shortfall(one, level=level) + expected_shortfall(two, level=level) + 1e-9


def test_a_book_that_always_gains_has_negative_risk():
    assert value_at_risk(pd.Series([0.01, 0.02])) == -0.01


DAYS = pd.bdate_range("2020-01-01", periods=4)
PAST = pd.DataFrame({"A": [0.01, -0.02, 0.03, np.nan], "B": [-0.04, 0.0, np.nan, 0.02], "C": [np.nan] * 4}, index=DAYS)


def test_the_book_of_today_in_past_markets():
    past = book_returns(PAST, pd.Series({"B": 0.5, "A": 1.0, "C": 0.0}))
    assert past.index.tolist() == list(DAYS[:2])
    assert past.tolist() == pytest.approx([0.01 - 0.02, -0.02])
    assert value_at_risk(PAST, pd.Series({"B": 0.5, "A": 1.0}), level=0.5) == pytest.approx(0.01)


def test_a_short_position_loses_when_its_name_gains():
    assert value_at_risk(PAST, pd.Series({"A": -1.0}), level=0.99) == pytest.approx(0.03)


def test_all_cash_cannot_lose():
    for weights in (pd.Series({"A": 0.0}), pd.Series(dtype=float)):
        for measure in BOTH:
            assert measure(PAST, weights) == 0


@pytest.mark.parametrize(
    ("returns", "weights", "says"),
    [
        (PAST, None, "together with weights"),
        (PAST["A"], pd.Series({"A": 1.0}), "returns alone"),
        (PAST, pd.Series({"A": 0.5, "ZZZ": 0.5}), "ZZZ is held"),
        (PAST, pd.Series({"A": np.nan}), "A has none"),
        (PAST, pd.Series({"A": 0.5, "C": 0.5}), "none among"),
        (pd.Series(dtype=float), None, "none among"),
    ],
)
def test_what_makes_no_book_is_refused(returns, weights, says):
    for measure in BOTH:
        with pytest.raises(DataError, match=says):
            measure(returns, weights)


def test_an_unknown_method_lists_the_known():
    for measure in BOTH:
        with pytest.raises(DataError, match="historical"):
            measure(PAST["A"], method="gaussian")


@pytest.mark.parametrize("level", [0.0, 1.0, 99, -0.1, np.nan])
def test_an_impossible_level_is_refused(level):
    for measure in BOTH:
        with pytest.raises(SettingsError, match="0.99 for 99 %"):
            measure(PAST["A"], level=level)
