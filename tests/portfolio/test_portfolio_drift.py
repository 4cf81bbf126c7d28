"""Drift is what holding shares does to weights; turnover counts the smaller side."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlt_lib.errors import DataError
from mlt_lib.portfolio.drift import drift, turnover

N = 5
SYMBOLS = list("ABCDE")
shares_of_book = hnp.arrays(float, N, elements=st.floats(0, 0.2))
factors = hnp.arrays(float, N, elements=st.floats(0.1, 10))


def series(values):
    return pd.Series(values, SYMBOLS)


@settings(max_examples=60, deadline=None)
@given(shares_of_book, factors)
def test_drift_is_the_book_kept_in_shares(w, g):
    after = drift(series(w), series(g))
    dollars, cash = w * 1e6 * g, 1e6 * (1 - w.sum())
    np.testing.assert_allclose(after, dollars / (dollars.sum() + cash), rtol=1e-10, atol=1e-15)


@settings(max_examples=60, deadline=None)
@given(shares_of_book, factors, factors)
def test_two_drifts_are_one(w, g, h):
    np.testing.assert_allclose(
        drift(drift(series(w), series(g)), series(h)), drift(series(w), series(g * h)), rtol=1e-9, atol=1e-12
    )


@settings(max_examples=60, deadline=None)
@given(shares_of_book, factors, st.permutations(SYMBOLS))
def test_the_order_of_names_changes_no_bit(w, g, order):
    straight, shuffled = drift(series(w), series(g)), drift(series(w)[list(order)], series(g)[list(order)])
    assert straight.equals(shuffled[SYMBOLS])


@settings(max_examples=60, deadline=None)
@given(shares_of_book)
def test_no_movement_leaves_every_bit(w):
    assert drift(series(w), series(np.ones(N))).equals(series(w))


@pytest.mark.parametrize("factor", [np.nan, np.inf, -1.0])
def test_a_held_name_needs_a_growth(factor):
    with pytest.raises(DataError, match="B"):
        drift(pd.Series({"A": 0.5, "B": 0.1}), pd.Series({"A": 1.0, "B": factor}))


def test_a_name_not_held_needs_none():
    after = drift(pd.Series({"A": 0.5, "B": 0.0}), pd.Series({"A": 1.0}))
    assert after.to_dict() == {"A": 0.5, "B": 0.0}


def test_an_unknown_weight_and_a_ruined_book_are_refused():
    with pytest.raises(DataError, match="A"):
        drift(pd.Series({"A": np.nan}), pd.Series({"A": 1.0}))
    with pytest.raises(DataError, match="nothing is left"):
        drift(pd.Series({"A": 2.0}), pd.Series({"A": 0.4}))


@settings(max_examples=60, deadline=None)
@given(shares_of_book, shares_of_book)
def test_turnover_is_symmetric_and_half_of_what_is_traded_beyond_cash(before, after):
    change = after - before
    expected = (np.abs(change).sum() - abs(change.sum())) / 2
    assert turnover(series(before), series(after)) == pytest.approx(expected, abs=1e-12)
    assert turnover(series(after), series(before)) == pytest.approx(expected, abs=1e-12)


def test_turnover_of_cash_put_to_work_and_of_other_names():
    assert turnover(pd.Series({"A": 0.2}), pd.Series({"A": 0.5, "B": 0.5})) == 0.0
    assert turnover(pd.Series({"A": 0.4}), pd.Series({"B": 0.3})) == pytest.approx(0.3)
    with pytest.raises(DataError, match="NaN"):
        turnover(pd.Series({"A": np.nan}), pd.Series({"A": 0.5}))
