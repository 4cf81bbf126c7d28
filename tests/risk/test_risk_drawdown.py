"Drawdown lies between -1 and 0, agrees with empyrical, and looks back only."

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError
from mlt_lib.risk.drawdown import drawdown, drawdown_now, max_drawdown

records = st.lists(st.floats(-1, 2), min_size=1, max_size=60).map(pd.Series)


@settings(max_examples=80, deadline=None)
@given(returns=records)
def test_it_lies_between_ruin_and_the_peak(returns):
    curve = drawdown(returns)
    assert curve.between(-1, 0).all() and len(curve) == len(returns)
    assert max_drawdown(returns) == curve.min() and drawdown_now(returns) == curve.iloc[-1]


@settings(max_examples=60, deadline=None)
@given(returns=records)
def test_it_is_the_worst_loss_since_any_earlier_point(returns):
    wealth = np.concatenate([[1.0], (1 + returns).cumprod()])
    worst = min(wealth[t] / wealth[: t + 1].max() - 1 for t in range(len(wealth)))
    assert max_drawdown(returns) == pytest.approx(worst, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(returns=records, cut=st.integers(1, 60))
def test_it_looks_back_only(returns, cut):
    assert drawdown(returns.iloc[:cut]).equals(drawdown(returns).iloc[:cut])


@pytest.mark.parametrize("seed", range(5))
def test_the_deepest_agrees_with_empyrical(seed):
    returns = pd.Series(np.random.default_rng(seed).normal(0, 0.02, 500))
    assert max_drawdown(returns) == pytest.approx(empyrical.max_drawdown(returns), rel=1e-10)


def test_by_hand():
    assert drawdown(pd.Series([-0.10, 0.20, -0.25])).tolist() == pytest.approx([-0.1, 0.0, -0.25])


def test_the_start_is_a_peak():
    assert drawdown_now(pd.Series([-0.1])) == pytest.approx(-0.1)
    assert drawdown_now(pd.Series([0.1])) == 0


def test_ruin_is_final():
    assert drawdown(pd.Series([0.5, -1.0, 2.0])).tolist() == [0, -1, -1]


def test_missing_returns_are_left_out_with_their_sessions():
    days = pd.bdate_range("2020-01-01", periods=3)
    curve = drawdown(pd.Series([np.nan, -0.1, np.nan], index=days))
    assert curve.index.tolist() == [days[1]]


def test_no_return_is_refused():
    for measure in (drawdown, max_drawdown, drawdown_now):
        with pytest.raises(DataError, match="none among"):
            measure(pd.Series([], dtype=float))
