"A panel summed up: equal to loops, whatever the order of rows; and every bad panel named."

import numpy as np
import pandas as pd
import pytest
from panels import linear_panel

from mlt_lib.errors import DataError
from mlt_lib.models.managed import appended, collinear, managed_portfolios, require_identified


def looped(Z, r, w=None):
    w = pd.Series(1.0, Z.index) if w is None else w
    W, X = [], []
    for date in Z.index.unique(0).sort_values():
        z, y, v = Z.loc[date].to_numpy(), r.loc[date].to_numpy(), w.loc[date].to_numpy()
        W.append(sum(a * np.outer(b, b) for a, b in zip(v, z, strict=True)))
        X.append(sum(a * b * c for a, b, c in zip(v, z, y, strict=True)))
    return np.array(W), np.array(X)


def test_sums_are_those_of_plain_loops():
    Z, r, *_ = linear_panel(dates=6, names=9, missing=0.3)
    panel = managed_portfolios(Z, r)
    W, X = looped(Z, r)
    assert np.allclose(panel.W, W, atol=1e-14) and np.allclose(panel.X, X, atol=1e-14)
    assert panel.counts.tolist() == r.groupby(level=0).size().tolist()
    assert np.allclose(panel.squares, (r**2).groupby(level=0).sum())


def test_weights_enter_once():
    Z, r, *_ = linear_panel(dates=4, names=5)
    w = pd.Series(np.random.default_rng(1).uniform(0.5, 2, len(r)), r.index)
    panel = managed_portfolios(Z, r, w)
    W, X = looped(Z, r, w)
    assert np.allclose(panel.W, W) and np.allclose(panel.X, X)


def test_a_doubled_row_weighs_two():
    Z, r, *_ = linear_panel(dates=3, names=5)
    more = Z.rename(index={"S000": "again"}, level=1).loc[lambda z: z.index.get_level_values(1) == "again"]
    doubled = managed_portfolios(
        pd.concat([Z, more]), pd.concat([r, r.xs("S000", level=1, drop_level=False).set_axis(more.index)])
    )
    weighted = managed_portfolios(Z, r, np.where(Z.index.get_level_values(1) == "S000", 2.0, 1.0))
    assert np.allclose(doubled.W, weighted.W) and np.allclose(doubled.X, weighted.X)


def test_rows_may_come_in_any_order():
    Z, r, *_ = linear_panel(dates=5, names=6, missing=0.2)
    order = np.random.default_rng(0).permutation(len(r))
    a, b = managed_portfolios(Z, r), managed_portfolios(Z.iloc[order], r.iloc[order])
    assert np.allclose(a.W, b.W, atol=1e-13) and a.dates.equals(b.dates)


def test_unused_dates_of_a_level_are_no_dates():
    Z, r, *_ = linear_panel(dates=5, names=6)
    late = Z.index.get_level_values(0) > "2000-03-01"
    assert len(managed_portfolios(Z[late], r[late])) == 3


def test_parts_appended_are_the_whole():
    Z, r, *_ = linear_panel(dates=8, names=6)
    panel, early = managed_portfolios(Z, r), Z.index.get_level_values(0) < "2000-05-15"
    whole = appended(managed_portfolios(Z[early], r[early]), managed_portfolios(Z[~early], r[~early]))
    assert np.allclose(whole.W, panel.W) and whole.dates.equals(panel.dates)
    with pytest.raises(DataError, match="doesn't lie after"):
        appended(whole, managed_portfolios(Z[~early], r[~early]))
    with pytest.raises(DataError, match="the dates before have"):
        appended(panel, managed_portfolios(Z.rename(columns={"c0": "other"}), r))


def broken(change):
    Z, r, *_ = linear_panel(dates=4, names=5)
    return change(Z.copy(), r.copy())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda Z, r: (Z.reset_index(drop=True), r), "set a MultiIndex"),
        (lambda Z, r: (Z, r.iloc[:-1]), "19 of them for 20 rows"),
        (lambda Z, r: (Z, r.iloc[::-1]), "align with .reindex"),
        (lambda Z, r: (pd.concat([Z, Z.iloc[:1]]), pd.concat([r, r.iloc[:1]])), "S000 stands twice on 2000-01-31"),
        (lambda Z, r: (Z.assign(c0=Z["c0"].where(Z.index != Z.index[7])), r), "'c0' of S002 on 2000-02-29"),
        (lambda Z, r: (Z, r.where(r.index != r.index[3])), "returns: S003 on 2000-01-31"),
        (lambda Z, r: (Z, r.mask(r.index == r.index[3], np.inf)), "returns: S003 on 2000-01-31.* is inf"),
        (lambda Z, r: (Z.assign(c0="high"), r), "'c0' holds"),
        (lambda Z, r: (Z.set_axis(["a", "a", "b", "c"], axis=1), r), "'a' stands twice"),
        (lambda Z, r: (Z.iloc[:0], r.iloc[:0]), "0 rows of 4"),
        (lambda Z, r: (Z * 1e200, r), "too large to be squared"),
    ],
)
def test_a_bad_panel_is_named(change, message):
    Z, r = broken(change)
    with pytest.raises(DataError, match=message):
        managed_portfolios(Z, r)


def test_dates_of_several_zones_are_refused():
    Z, r, *_ = linear_panel(dates=2, names=2)
    mixed = [(pd.Timestamp("2000-01-31", tz="UTC"), "A"), (pd.Timestamp("2000-02-29").date(), "A")]
    index = pd.MultiIndex.from_arrays(
        [pd.Index([a for a, _ in mixed], dtype=object), ["A", "A"]], names=["date", "symbol"]
    )
    with pytest.raises(DataError, match="several types or time zones"):
        managed_portfolios(Z.iloc[:2].set_axis(index), r.iloc[:2].set_axis(index))


def test_a_weight_must_be_positive():
    Z, r, *_ = linear_panel(dates=2, names=3)
    with pytest.raises(DataError, match="row 1 has weight 0"):
        managed_portfolios(Z, r, np.array([1, 0, 1, 1, 1, 1.0]))


def test_what_would_be_arbitrary_is_refused():
    Z, r, *_ = linear_panel(dates=6, names=5)
    with pytest.raises(DataError, match="constant, second are collinear"):
        require_identified(managed_portfolios(Z.assign(second=3.0), r), 1)
    with pytest.raises(DataError, match="nothing"):
        require_identified(managed_portfolios(Z.assign(nothing=0.0), r), 1)
    assert set(collinear(managed_portfolios(Z.assign(both=Z["c0"] - 2 * Z["c1"]), r))) == {"c0", "c1", "both"}
    panel = managed_portfolios(Z, r)
    for wrong, message in (
        (0, "whole number"),
        (2.0, "whole number"),
        (True, "whole number"),
        (5, "only 4 characteristics"),
    ):
        with pytest.raises(DataError, match=message):
            require_identified(panel, wrong)
    with pytest.raises(DataError, match="2 dates for 2 factors"):
        require_identified(panel[slice(0, 2)], 2)
    thin = Z.index.isin([Z.index[0]]) | (Z.index.get_level_values(0) > "2000-02-01")
    with pytest.raises(DataError, match="2000-01-31.* has 1 names for 2 factors"):
        require_identified(managed_portfolios(Z[thin], r[thin]), 2)
    require_identified(panel, np.int64(2))
