"The embedded prices: whole, the caller's own, and missed in one line."

import numpy as np
import pytest

from mlt_lib.data import sample
from mlt_lib.errors import DataError


def test_the_sample_is_whole():
    prices = sample.closes()
    assert prices.shape == (8313, 20)
    assert str(prices.index[0].date()) == "1990-01-02" and str(prices.index[-1].date()) == "2022-12-28"
    assert np.isfinite(prices).all(axis=None) and (prices > 0).all(axis=None)
    assert prices.index.is_monotonic_increasing and prices.index.is_unique and prices.index.tz is None
    assert (prices.index.name, prices.columns.name) == ("session", "symbol")


def test_the_index_is_a_price_index_on_the_same_sessions():
    levels = sample.index_levels()
    assert levels.index.equals(sample.closes().index)
    assert (levels.iloc[0], levels.iloc[-1]) == (359.69, 3783.22)  # as printed: no dividends in it


def test_a_caller_cannot_change_what_the_next_one_sees():
    prices, levels = sample.closes(), sample.index_levels()
    prices.iloc[0, 0] = levels.iloc[0] = -1.0
    prices.columns.name = "changed"
    assert sample.closes().iloc[0, 0] == 0.264 and sample.closes().columns.name == "symbol"
    assert sample.index_levels().iloc[0] == 359.69


def test_an_absent_package_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setattr(sample, "find_spec", lambda name: None)
    sample._table.cache_clear()
    with pytest.raises(DataError, match=r"pip install skfolio.*source = files") as caught:
        sample.closes()
    assert "\n" not in str(caught.value)


def test_reading_the_sample_does_not_import_the_heavy_package(run_python):
    assert run_python("import sys, mlt_lib.data.sample as s; s.closes(); print('skfolio' in sys.modules)") == "False"
