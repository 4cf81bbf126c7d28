"Windows: equal to a plain loop, dependent on their own rows only, to the bit."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from mlt_lib.errors import DataError, SettingsError
from mlt_lib.market.windows import (
    arrays,
    framed,
    logarithm,
    ratio,
    window_comoment,
    window_max,
    window_mean,
    window_min,
    window_since_max,
    window_sum,
    window_third,
    window_variance,
    windowed,
)

numbers = arrays_of.arrays(float, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=st.floats(-1e3, 1e3))
windows = st.integers(1, 45)
LOOPS = {
    "sum": (window_sum, lambda w: w.sum(axis=0)),
    "mean": (window_mean, lambda w: w.mean(axis=0)),
    "max": (window_max, lambda w: w.max(axis=0)),
    "min": (window_min, lambda w: w.min(axis=0)),
    "since": (window_since_max, lambda w: np.argmax(w[::-1], axis=0)),
    "comoment": (lambda v, n: window_comoment(v, v, n), lambda w: ((w - w.mean(axis=0)) ** 2).sum(axis=0)),
    "third": (lambda v, n: window_third(v, v, v, n), lambda w: ((w - w.mean(axis=0)) ** 3).mean(axis=0)),
}


@settings(max_examples=200, deadline=None)
@given(length=st.integers(0, 70), window=st.integers(1, 80))
def test_every_window_holds_its_rows_in_order_and_each_once(length, window):
    letters = (np.array([chr(0x4E00 + n) for n in range(length)], dtype=object),)
    found = windowed(letters, lambda older, newer, *_: (older[0] + newer[0],), window)[0]
    for row in range(length):
        if row >= window - 1:
            assert found[row] == "".join(letters[0][row - window + 1 : row + 1])
        else:
            assert found[row] != found[row]  # NaN


@settings(max_examples=100, deadline=None)
@given(length=st.integers(1, 70), window=st.integers(1, 80))
def test_the_combiner_is_told_how_many_rows_it_is_given(length, window):
    def counted(older, newer, m, n):
        assert (older[0] == m).all() and (newer[0] == n).all()
        return (older[0] + newer[0],)

    windowed((np.ones(length),), counted, window)


@pytest.mark.parametrize("name", LOOPS)
@settings(max_examples=40, deadline=None)
@given(values=numbers, window=windows)
def test_equals_a_loop(name, values, window):
    ours, loop = LOOPS[name]
    found = ours(values, window)
    assert found.shape == values.shape
    for row in range(len(values)):
        if row < window - 1:
            assert np.isnan(found[row]).all()
        else:
            scale = max(1.0, np.abs(values[row - window + 1 : row + 1]).max()) ** 3
            np.testing.assert_allclose(
                found[row], loop(values[row - window + 1 : row + 1]), rtol=1e-9, atol=1e-12 * scale
            )


@pytest.mark.parametrize("name", LOOPS)
@settings(max_examples=25, deadline=None)
@given(values=numbers, window=windows, data=st.data())
def test_the_tail_gives_the_same_bits(name, values, window, data):
    row = data.draw(st.integers(0, len(values) - 1))
    begin = data.draw(st.integers(0, max(0, row - window + 1)))
    whole, part = (LOOPS[name][0](table, window) for table in (values, values[begin : row + 1]))
    assert whole[row].tobytes() == part[-1].tobytes()


@pytest.mark.parametrize("name", LOOPS)
def test_a_gap_empties_the_windows_that_touch_it_and_no_other(name):
    values = np.random.default_rng(0).normal(size=(60, 2))
    holed = values.copy()
    holed[30, 0] = np.nan
    found, before = LOOPS[name][0](holed, 7), LOOPS[name][0](values, 7)
    assert np.isnan(found[30:37, 0]).all()
    found[30:37, 0] = before[30:37, 0]
    assert found.tobytes() == before.tobytes()


@settings(max_examples=60, deadline=None)
@given(level=st.floats(-1e6, 1e6), length=st.integers(2, 30), window=st.integers(2, 30), jump=st.floats(-1e9, 1e9))
def test_what_stands_still_has_no_variance_whatever_came_before(level, length, window, jump):
    values = np.full((length + 1, 1), level)
    values[0] = jump
    found = window_variance(values, window)[window:]
    assert (found == 0).all()


def test_a_mean_over_those_that_are_there():
    values = np.array([[1.0], [np.nan], [3.0], [np.nan], [np.nan], [6.0]])
    assert window_mean(values, 3, least=1)[:, 0].tolist()[2:] == [2.0, 3.0, 3.0, 6.0]
    two = window_mean(values, 3, least=2)[:, 0]
    assert two[2] == 2.0 and np.isnan(two[3:]).all()
    assert np.isnan(window_mean(values * np.nan, 3, least=0)).all()


def test_a_column_goes_with_all():
    chance = np.random.default_rng(1)
    one, many = chance.normal(size=(50, 1)), chance.normal(size=(50, 3))
    found = window_comoment(one, many, 20)[-1]
    assert np.allclose(found, [np.cov(one[-20:, 0], many[-20:, k])[0, 1] * 19 for k in range(3)], rtol=1e-12)
    assert window_comoment(one[:5], many[:5], 20).shape == (5, 3)


def test_ratios_and_logarithms_of_nothing_are_unknown():
    assert np.isnan(ratio(np.array([1.0, 0.0]), np.zeros(2))).all()
    assert np.isnan(logarithm(np.array([0.0, -1.0, np.nan]))).all() and logarithm(np.ones(1))[0] == 0


def test_panels_must_lie_over_each_other():
    days = pd.bdate_range("2020-01-01", periods=2)
    frame = pd.DataFrame({"A": [1, 2]}, index=days)
    assert arrays(frame, frame * 2)[1].dtype == float
    for other in (frame.rename(columns={"A": "B"}), frame.iloc[:1], frame.shift(freq="D")):
        with pytest.raises(DataError, match="share sessions and symbols"):
            arrays(frame, other)
    assert framed(np.array([[np.inf], [1.0]]), frame)["A"].isna().tolist() == [True, False]


def test_a_window_of_nothing_is_refused():
    with pytest.raises(SettingsError, match="at least 1"):
        window_sum(np.ones((3, 1)), 0)
    with pytest.raises(SettingsError, match="at least 2"):
        window_variance(np.ones((3, 1)), 1)
