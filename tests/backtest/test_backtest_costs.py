"""Costs: their formula, their units, and the book that pays them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlt_lib.backtest.costs import ProportionalCost, book_after_costs, cost_share
from mlt_lib.errors import SettingsError


def test_half_the_spread_and_the_commission():
    assert ProportionalCost(1, 10).share == pytest.approx(0.0006)
    assert ProportionalCost().share == 0


@pytest.mark.parametrize("field", ["commission_bps", "spread_bps"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_a_cost_below_nothing_is_refused(field, value):
    with pytest.raises(SettingsError, match=field):
        ProportionalCost(**{field: value})


def test_costs_come_as_a_share_a_cost_or_several():
    one = ProportionalCost(1, 2)
    assert cost_share(0.001) == 0.001
    assert cost_share(np.float64(0.001)) == 0.001
    assert cost_share(one) == pytest.approx(0.0002)
    assert cost_share([one, one]) == pytest.approx(0.0004)
    assert cost_share([]) == 0


@pytest.mark.parametrize("share", [5, 0.1, -0.0001, float("nan")])
def test_basis_points_in_place_of_a_share_are_refused(share):
    with pytest.raises(SettingsError, match="5 basis points are 0.0005"):
        cost_share(share)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(float, 4, elements=st.floats(0, 0.25)),
    hnp.arrays(float, 4, elements=st.floats(0, 0.25)),
    st.floats(0, 0.099),
)
def test_the_book_pays_exactly_for_its_trades(w, h, share):
    after = book_after_costs(1e6, h * 1e6, w, share)
    assert after == pytest.approx(1e6 - share * np.abs(w * after - h * 1e6).sum(), rel=1e-13)
    assert 0 < after <= 1e6
