"The measures agree with empyrical and the formulas, and refuse what they can't mean anything for."

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlt_lib.errors import DataError
from mlt_lib.risk.measures import annual_return, annual_volatility, hit_rate, observed, sharpe, sharpe_error

MEASURES = (annual_return, annual_volatility, sharpe, sharpe_error, hit_rate)


def record(seed=0, rows=700, mean=0.0005) -> pd.Series:
    "Returns with fat tails."
    values = mean + 0.01 * np.random.default_rng(seed).standard_t(4, rows)
    return pd.Series(values, pd.bdate_range("2020-01-01", periods=rows))


@pytest.mark.parametrize("seed", range(5))
def test_they_agree_with_empyrical(seed):
    returns = record(seed)
    assert annual_return(returns) == pytest.approx(empyrical.annual_return(returns), rel=1e-10)
    assert annual_volatility(returns) == pytest.approx(empyrical.annual_volatility(returns), rel=1e-10)
    assert sharpe(returns) == pytest.approx(empyrical.sharpe_ratio(returns), rel=1e-10)
    assert sharpe(returns, rf=0.0252) == pytest.approx(empyrical.sharpe_ratio(returns, risk_free=0.0001), rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_mertens_formula(seed):
    returns = record(seed)
    per_session = sharpe(returns) / 252**0.5
    variance = (
        1
        + per_session**2 / 2
        - stats.skew(returns) * per_session
        + stats.kurtosis(returns, fisher=True) / 4 * per_session**2
    )
    assert sharpe_error(returns) == pytest.approx((variance * 252 / len(returns)) ** 0.5, rel=1e-10)


def test_the_error_is_los_for_normal_returns():
    returns = pd.Series(stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000) * 0.01 + 0.002)
    per_session = sharpe(returns) / 252**0.5
    assert sharpe_error(returns) == pytest.approx(((1 + per_session**2 / 2) * 252 / len(returns)) ** 0.5, rel=1e-3)


def test_the_error_is_the_scatter_of_skewed_records():
    "Losses with a long tail (skewness -2): the formula follows the simulated scatter, without skewness it would not."
    draws = 0.013 - np.random.default_rng(3).exponential(0.01, (3000, 1000))
    scatter = (draws.mean(axis=1) / draws.std(axis=1, ddof=1)).std() * 252**0.5
    one = pd.Series(draws.ravel()[:200_000])
    without_skewness = (252 / 1000 * (1 + sharpe(one) ** 2 / 252 / 2)) ** 0.5
    assert sharpe_error(one) * 200**0.5 == pytest.approx(scatter, rel=0.04)
    assert without_skewness < 0.8 * scatter


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=40), st.integers(0, 40))
def test_a_missing_return_changes_nothing(values, place):
    returns = pd.Series(values)
    gap = pd.Series([*values[:place], np.nan, *values[place:]])
    for measure in MEASURES:
        np.testing.assert_equal(measure(gap), measure(returns))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-0.5, 0.5).map(lambda r: round(r, 4)), min_size=2, max_size=40), st.floats(0.1, 1.9))
def test_the_ratio_forgets_leverage_the_volatility_does_not(values, factor):
    returns = pd.Series(values)
    if returns.min() < returns.max():
        assert sharpe(returns * factor) == pytest.approx(sharpe(returns), rel=1e-6, abs=1e-9)
        assert sharpe_error(returns * factor) == pytest.approx(sharpe_error(returns), rel=1e-6)
        assert annual_volatility(returns * factor) == pytest.approx(factor * annual_volatility(returns), rel=1e-9)


def test_by_hand():
    assert annual_return(pd.Series([0.1] * 252)) == pytest.approx(1.1**252 - 1)
    assert annual_return(pd.Series([0.5, -1.0])) == -1
    assert hit_rate(pd.Series([0.1, 0.0, -0.1, 0.2])) == 0.5


def test_a_still_book_has_no_ratio():
    still = pd.Series([0.1] * 5)
    assert np.isnan(sharpe(still)) and np.isnan(sharpe_error(still))
    assert annual_volatility(pd.Series([0.0] * 5)) == 0


def test_one_return_has_no_volatility():
    assert np.isnan(annual_volatility(pd.Series([0.1]))) and np.isnan(sharpe(pd.Series([0.1])))


@pytest.mark.parametrize("measure", [observed, *MEASURES])
@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_no_return_is_refused(measure, values):
    with pytest.raises(DataError, match="none among"):
        measure(pd.Series(values, dtype=float))


@pytest.mark.parametrize("value", [-1.01, np.inf, -np.inf])
def test_an_impossible_return_is_refused_with_its_place(value):
    returns = record(rows=5)
    returns.iloc[2] = value
    with pytest.raises(DataError, match="at 2020-01-03"):
        observed(returns)
