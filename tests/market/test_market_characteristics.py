"Characteristics are the textbook's numbers, look at nothing later, and equal to the bit however long the table."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import SettingsError
from mlt_lib.market.characteristics import momentum, volatility
from mlt_lib.market.panel import simple_returns

CHARACTERISTICS = {
    "momentum": (lambda prices: momentum(prices, lookback=30, skip=5), 31),
    "volatility": (lambda prices: volatility(prices, window=30), 31),
}


def walk(rows: int = 120, names: int = 4, seed: int = 0) -> pd.DataFrame:
    "Prices of a random walk."
    steps = np.random.default_rng(seed).normal(0, 0.02, (rows, names))
    return pd.DataFrame(
        100 * np.exp(steps.cumsum(axis=0)),
        index=pd.bdate_range("2020-01-01", periods=rows),
        columns=list("ABCD")[:names],
    )


def test_momentum_by_hand():
    prices = walk()
    found = momentum(prices, lookback=30, skip=5)
    assert found.iloc[:30].isna().all(axis=None) and found.iloc[30:].notna().all(axis=None)
    assert found["B"].iloc[50] == prices["B"].iloc[45] / prices["B"].iloc[20] - 1


def test_momentum_without_a_skip_is_the_growth_up_to_now():
    prices = walk()
    assert momentum(prices, lookback=1, skip=0).equals(simple_returns(prices))


def test_volatility_is_the_rolling_deviation():
    prices = walk()
    oracle = simple_returns(prices).rolling(30).std() * 252**0.5
    pd.testing.assert_frame_equal(volatility(prices, window=30), oracle, rtol=1e-12)


def test_still_prices_have_no_volatility():
    assert (volatility(walk() * 0 + 7.0, window=30).dropna() == 0).all(axis=None)


def test_too_short_a_table_knows_nothing():
    assert volatility(walk(30), window=30).isna().all(axis=None)
    assert momentum(walk(30), lookback=30, skip=5).isna().all(axis=None)


def test_a_gap_empties_the_windows_that_touch_it_and_no_other():
    prices = walk()
    prices.iloc[60, 0] = np.nan
    found = volatility(prices, window=30)["A"]
    assert found.iloc[60:91].isna().all()
    assert found.iloc[30:60].notna().all() and found.iloc[91:].notna().all()
    assert volatility(prices, window=30)["B"].iloc[30:].notna().all()


@pytest.mark.parametrize("name", CHARACTERISTICS)
@settings(max_examples=25, deadline=None)
@given(cut=st.integers(31, 119), factor=st.floats(0.1, 10), seed=st.integers(0, 5))
def test_a_row_does_not_feel_later_rows(name, cut, factor, seed):
    characteristic, _ = CHARACTERISTICS[name]
    prices = walk(seed=seed)
    altered = prices.copy()
    altered.iloc[cut:] *= factor * np.linspace(0.5, 2, len(prices) - cut)[:, None]
    assert characteristic(altered).iloc[:cut].equals(characteristic(prices).iloc[:cut])


@pytest.mark.parametrize("name", CHARACTERISTICS)
@settings(max_examples=25, deadline=None)
@given(end=st.integers(31, 120), names=st.integers(1, 4), spare=st.integers(0, 40))
def test_the_tail_gives_the_same_bits_as_the_whole(name, end, names, spare):
    characteristic, rows = CHARACTERISTICS[name]
    prices = walk()
    tail = prices.iloc[max(0, end - rows - spare) : end, :names]
    assert characteristic(tail).iloc[-1].equals(characteristic(prices).iloc[end - 1, :names])


def test_the_house_windows_need_253_rows():
    prices = walk(253)
    for characteristic in (momentum, volatility):
        assert characteristic(prices).iloc[-1].notna().all()
        assert characteristic(prices.iloc[1:]).iloc[-1].isna().all()


@pytest.mark.parametrize(("lookback", "skip"), [(21, 21), (5, 9), (10, -1)])
def test_momentum_over_no_time_is_refused(lookback, skip):
    with pytest.raises(SettingsError, match="skip < lookback"):
        momentum(walk(), lookback, skip)


def test_volatility_of_one_return_is_refused():
    with pytest.raises(SettingsError, match="at least 2"):
        volatility(walk(), window=1)
