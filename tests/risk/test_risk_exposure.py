"Sums of weights, the least-squares beta, and leanings that add up."

import empyrical
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError
from mlt_lib.risk.exposure import beta, characteristic_exposure, gross, largest, net

books = st.dictionaries(st.sampled_from("ABCDEFGH"), st.floats(-2, 2), max_size=8).map(
    lambda w: pd.Series(w, dtype=float)
)


@settings(max_examples=60, deadline=None)
@given(weights=books)
def test_sizes_are_ordered(weights):
    assert 0 <= largest(weights) <= gross(weights) + 1e-12
    assert abs(net(weights)) <= gross(weights) + 1e-12
    assert net(-weights) == -net(weights) and gross(-weights) == gross(weights)


def test_by_hand():
    weights = pd.Series({"A": 0.5, "B": 0.25, "C": -0.75})
    assert (gross(weights), net(weights), largest(weights)) == (1.5, 0.0, 0.75)


def test_an_empty_book_is_all_cash():
    empty = pd.Series(dtype=float)
    assert gross(empty) == net(empty) == largest(empty) == 0


@pytest.mark.parametrize("measure", [gross, net, largest])
def test_a_weight_that_is_unknown_or_double_is_refused_by_name(measure):
    for value in (np.nan, np.inf):
        with pytest.raises(DataError, match="B has"):
            measure(pd.Series({"A": 0.5, "B": value}))
    with pytest.raises(DataError, match="A stands there twice"):
        measure(pd.Series([0.5, 0.5], index=["A", "A"]))


@pytest.mark.parametrize("seed", range(5))
def test_beta_agrees_with_statsmodels_and_empyrical(seed):
    rng = np.random.default_rng(seed)
    market = pd.Series(rng.normal(0, 0.01, 300))
    book = 0.7 * market + pd.Series(rng.normal(0, 0.01, 300))
    assert beta(book, market) == pytest.approx(sm.OLS(book, sm.add_constant(market)).fit().params.iloc[1], rel=1e-10)
    assert beta(book, market) == pytest.approx(empyrical.beta(book, market), rel=1e-10)


def test_beta_uses_the_sessions_that_both_have():
    days = pd.bdate_range("2020-01-01", periods=5)
    market = pd.Series([0.01, -0.01, 0.02, np.nan, 0.5], index=days)
    book = pd.Series([np.nan, -0.02, 0.04, 9.0], index=days[:4])
    assert beta(book, market) == pytest.approx(2.0)


def test_beta_of_cash_is_zero_and_against_nothing_undefined():
    moving = pd.Series([0.01, -0.01, 0.02])
    assert beta(moving * 0, moving) == 0
    assert np.isnan(beta(moving, moving * 0 + 0.1))


def test_beta_of_too_little_is_refused():
    with pytest.raises(DataError, match="1 sessions"):
        beta(pd.Series([0.01, np.nan]), pd.Series([0.01, 0.02]))


SCORES = pd.DataFrame({"momentum": [0.5, -0.5, np.nan], "calm": [0.1, 0.2, 0.3]}, index=["A", "B", "C"])


def test_exposures_by_hand():
    found = characteristic_exposure(pd.Series({"C": 1.0, "A": 0.5}), SCORES)
    assert found.to_dict() == pytest.approx({"momentum": 0.25, "calm": 0.35})


def test_exposures_of_books_add_up():
    one, two = pd.Series({"A": 0.3, "B": -0.2, "C": 0.0}), pd.Series({"A": 0.1, "B": 0.6, "C": 0.2})
    apart = characteristic_exposure(one, SCORES) + characteristic_exposure(two, SCORES)
    assert np.allclose(characteristic_exposure(one + two, SCORES), apart)


def test_a_name_not_held_needs_no_score_and_a_held_one_does():
    assert characteristic_exposure(pd.Series({"A": 1.0, "ZZZ": 0.0}), SCORES)["calm"] == 0.1
    assert (characteristic_exposure(pd.Series(dtype=float), SCORES) == 0).all()
    with pytest.raises(DataError, match="ZZZ is held"):
        characteristic_exposure(pd.Series({"ZZZ": 0.1}), SCORES)
