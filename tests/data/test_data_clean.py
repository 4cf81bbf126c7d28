"What is filled, clipped and adjusted knows nothing of the rows after it."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.data.clean import POLICIES, clean_prices, winsorised, winsorised_across, without_gaps
from mlt_lib.errors import DataError, SettingsError

few = settings(max_examples=30, deadline=None)


@st.composite
def tables(draw, rows=40):
    "Prices with holes of any length."
    number = st.one_of(st.floats(1, 300), st.just(np.nan))
    cells = {name: draw(st.lists(number, min_size=rows, max_size=rows)) for name in ("A", "B", "C")}
    return pd.DataFrame(cells, pd.bdate_range("2018-01-02", periods=rows))


@few
@given(tables(), st.integers(1, 39), st.sampled_from(POLICIES))
def test_rows_to_come_never_change_a_filled_price(prices, cut, policy):
    whole, part = (without_gaps(t, policy, limit=3, window=10) for t in (prices, prices.iloc[:cut]))
    pd.testing.assert_frame_equal(whole.prices.iloc[:cut], part.prices)


@few
@given(tables(), st.integers(1, 39), st.floats(0.01, 0.3))
def test_rows_to_come_never_change_a_clipped_value(values, cut, tail):
    for clip in (lambda t: winsorised(t, tail, window=12, least=4), lambda t: winsorised_across(t, tail)):
        pd.testing.assert_frame_equal(clip(values).iloc[:cut], clip(values.iloc[:cut]))


@few
@given(tables(), st.integers(13, 39))
def test_a_value_is_clipped_to_the_quantiles_of_the_rows_before_it(values, row):
    clipped = winsorised(values, 0.1, window=12, least=4)
    past = values.iloc[max(row - 12, 0) : row]
    for name in values:
        seen, value = past[name].dropna(), values[name].iloc[row]
        expected = value if len(seen) < 4 else np.clip(value, seen.quantile(0.1), seen.quantile(0.9))
        assert np.isclose(clipped[name].iloc[row], expected, rtol=1e-12, equal_nan=True)


@few
@given(tables())
def test_nothing_is_made_up(prices):
    for policy in POLICIES:
        found = without_gaps(prices, policy, limit=3, window=10)
        there = found.prices.notna()
        kept = prices.where(prices.notna(), prices.ffill())
        assert (found.prices.where(there, 0) == kept.where(there, 0)).all(axis=None)
        assert policy == "carry" or not found.carried.any()


def test_the_policies_differ_as_they_say():
    prices = pd.DataFrame({"A": [5.0, np.nan, np.nan, np.nan, 6.0]}, pd.bdate_range("2018-01-02", periods=5))
    assert without_gaps(prices, "leave").prices["A"].notna().tolist() == [True, False, False, False, True]
    assert without_gaps(prices, "carry", limit=2).prices["A"].tolist()[:3] == [5.0] * 3
    assert without_gaps(prices, "carry", limit=2).carried["A"] == 2
    assert without_gaps(prices, "retire", window=5, share=0.6).prices["A"].notna().tolist() == [True] + [False] * 4


def test_mistakes_are_named():
    prices = pd.DataFrame({"A": [5.0]}, pd.DatetimeIndex(["2018-01-02"]))
    with pytest.raises(SettingsError, match="'interpolate' is no policy; there are leave, carry, retire"):
        without_gaps(prices, "interpolate")
    for clip in (winsorised, winsorised_across):
        with pytest.raises(DataError, match="a share above 0 and below 0.5"):
            clip(prices, 0.7)


def test_clean_prices_stand_on_a_day():
    days = pd.bdate_range("2018-01-02", periods=4)
    raw = pd.DataFrame({"A": [100.0, np.nan, 52.0, 53.0]}, days)
    split = pd.DataFrame({"symbol": ["A"], "session": [days[2]], "kind": ["split"], "value": [2.0]})
    assert clean_prices(raw, split).prices["A"].tolist() == [50.0, 50.0, 52.0, 53.0]
    assert clean_prices(raw, split, as_of=days[1]).prices["A"].tolist() == [100.0, 100.0]
