"The shrunk covariance is Ledoit and Wolf's, symmetric, positive and refuses what is incomplete."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf

from mlt_lib.errors import DataError
from mlt_lib.risk.covariance import ledoit_wolf


def returns(rows=60, names=8, seed=0) -> pd.DataFrame:
    "Returns that share a market."
    rng = np.random.default_rng(seed)
    values = 0.01 * (rng.normal(size=(rows, names)) + rng.normal(size=(rows, 1)))
    return pd.DataFrame(values, pd.bdate_range("2020-01-01", periods=rows), [f"S{k}" for k in range(names)])


def by_the_paper(x: np.ndarray) -> np.ndarray:
    "Lemmas 3.2 to 3.5 of Ledoit and Wolf (2004), written out."
    rows, names = x.shape
    x = x - x.mean(axis=0)
    sample = x.T @ x / rows
    m = np.trace(sample) / names
    d2 = ((sample - m * np.eye(names)) ** 2).sum() / names
    b2 = min(sum(((np.outer(row, row) - sample) ** 2).sum() for row in x) / names / rows**2, d2)
    return b2 / d2 * m * np.eye(names) + (1 - b2 / d2) * sample


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(3, 80), names=st.integers(2, 12), seed=st.integers(0, 99))
def test_it_is_the_papers_and_sklearns(rows, names, seed):
    data = returns(rows, names, seed)
    found = ledoit_wolf(data)
    np.testing.assert_allclose(found, by_the_paper(data.to_numpy()), rtol=1e-9, atol=1e-16)
    np.testing.assert_allclose(found, LedoitWolf().fit(data.to_numpy()).covariance_, rtol=1e-12)
    assert found.equals(found.T)
    assert np.linalg.eigvalsh(found).min() > 0


def test_symbols_label_both_sides():
    data = returns(names=3)
    found = ledoit_wolf(data)
    assert list(found.index) == list(found.columns) == list(data.columns)


def test_the_layout_in_memory_does_not_matter():
    data = returns()
    by_column = pd.DataFrame(np.asfortranarray(data.to_numpy()), data.index, data.columns)
    assert ledoit_wolf(by_column).equals(ledoit_wolf(data))
    assert ledoit_wolf(pd.concat([returns(20, seed=1), data]).iloc[20:]).equals(ledoit_wolf(data))


def test_one_name_has_its_variance():
    data = returns(names=1)
    assert ledoit_wolf(data).iat[0, 0] == pytest.approx(data["S0"].var(ddof=0))


def test_more_names_than_days_can_be_inverted():
    data = returns(rows=10, names=30)
    assert np.linalg.matrix_rank(data.cov()) < 30
    assert np.linalg.matrix_rank(ledoit_wolf(data)) == 30


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_incomplete_row_is_refused_by_name(value):
    data = returns()
    data.iloc[5, 2] = value
    with pytest.raises(DataError, match=r"S2 at 2020-01-08.*1 such"):
        ledoit_wolf(data)


@pytest.mark.parametrize("data", [returns().iloc[:1], returns().iloc[:0], returns().iloc[:, :0]])
def test_too_little_is_refused(data):
    with pytest.raises(DataError, match="at least 2 of 1"):
        ledoit_wolf(data)


@pytest.mark.parametrize("seed", range(5))
def test_the_sums_are_taken_in_sklearns_order(seed):
    data = returns(rows=252, names=20, seed=seed)
    by_row = np.ascontiguousarray(data.to_numpy())
    assert (ledoit_wolf(data).to_numpy() == sklearn_ledoit_wolf(by_row)[0]).all()


def test_returns_that_never_move_have_no_covariance():
    assert (ledoit_wolf(returns() * 0.0).to_numpy() == 0).all()
