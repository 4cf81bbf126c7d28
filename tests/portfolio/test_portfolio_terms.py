"""What the terms promise: forced trading never leaves the turnover limit without a solution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlt_lib.portfolio import terms
from mlt_lib.portfolio.drift import turnover

books = hnp.arrays(float, 6, elements=st.floats(0, 0.6))


@settings(max_examples=100, deadline=None)
@given(books, st.floats(0.1, 1.0), st.floats(0.17, 1.0))
def test_clipping_to_the_cap_and_filling_up_keeps_a_limit_of_zero(book, share, cap):
    share = min(share, 6 * cap)
    clipped = np.minimum(book, cap)
    gap = share - clipped.sum()
    room = cap - clipped if gap > 0 else clipped
    w = clipped + gap * room / max(room.sum(), 1e-300)
    assert np.abs(w - book).sum() <= terms.forced_trading(book, share, cap) + 1e-9


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(float, 6, elements=st.floats(0, 0.16)), hnp.arrays(float, 6, elements=st.floats(0, 0.16)))
def test_without_forced_sales_the_limit_is_the_turnover(book, w):
    import pandas as pd

    traded = np.abs(w - book).sum() - terms.forced_trading(book, w.sum(), 1.0)
    assert traded / 2 == pytest.approx(turnover(pd.Series(book), pd.Series(w)), abs=1e-12)


def test_the_terms_are_convex_and_parametrised():
    import cvxpy as cp

    w, mu, book = cp.Variable(3), cp.Parameter(3), cp.Parameter(3)
    factor, forced = cp.Parameter((3, 3)), cp.Parameter(nonneg=True)
    wish = terms.expected_return(w, mu) - terms.variance(w, factor) - terms.trading_cost(w, book, 0.001)
    rules = [
        terms.long_only(w),
        terms.invested(w, 0.98),
        terms.position_limit(w, 0.5),
        terms.turnover_limit(w, book, 0.1, forced),
    ]
    assert cp.Problem(cp.Maximize(wish), rules).is_dcp(dpp=True)
    w.value, mu.value, book.value = np.array([0.5, 0.3, 0.0]), np.array([0.1, 0.2, 0.3]), np.zeros(3)
    factor.value = np.diag([0.1, 0.2, 0.3])
    assert terms.expected_return(w, mu).value == pytest.approx(0.11)
    assert terms.variance(w, factor).value == pytest.approx(0.05**2 + 0.06**2)
    assert terms.trading_cost(w, book, 0.001).value == pytest.approx(0.0008)
