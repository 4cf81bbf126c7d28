"Baselines, forecasts by trees, sorts, nonlinear characteristics and combinations."

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import index_of, linear_panel
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV

from mlt_lib.errors import DataError
from mlt_lib.models.baselines import RegressedPCA, dates_in_order, leading, linear_benchmarks, slopes
from mlt_lib.models.ipca import IPCA
from mlt_lib.models.managed import managed_portfolios
from mlt_lib.models.nonlinear import random_waves, splines
from mlt_lib.models.sort_factor import (
    GBRTSortFactor,
    diebold_mariano,
    information_coefficient,
    mean_test,
    r2_against_zero,
    sort_weights,
    walk_forecasts,
)
from mlt_lib.models.stacking import CombinedForecast, shares

# Baselines


def test_slopes_are_regressions_of_each_date():
    Z, r, *_ = linear_panel(dates=5, names=20)
    told = slopes(managed_portfolios(Z, r))
    for row, date in zip(told, Z.index.levels[0], strict=True):
        assert row == pytest.approx(np.linalg.lstsq(Z.loc[date], r.loc[date], rcond=None)[0])


def test_leading_portfolios_by_their_definition():
    x = np.random.default_rng(0).normal(0.01, 0.05, (50, 4))
    u = np.linalg.svd(x - x.mean(axis=0))[2][:2].T
    assert np.abs(leading(x, 2, -1.0) @ leading(x, 2, -1.0).T - u @ u.T).max() < 1e-12
    v = np.linalg.svd(x)[2][:2].T
    assert np.abs(leading(x, 2) @ leading(x, 2).T - v @ v.T).max() < 1e-12


def test_exact_worlds_are_recovered_in_closed_form():
    Z, r, *_ = linear_panel(noise=0.0)
    model, ipca = RegressedPCA(2).fit(Z, r), IPCA(2, tol=1e-12).fit(Z, r)
    assert model.total_r2_ == pytest.approx(1) and np.abs(model.gamma_ - ipca.gamma_).to_numpy().max() < 1e-8


def test_no_closed_form_explains_more_than_least_squares():
    Z, r, *_ = linear_panel(noise=0.2, missing=0.3)
    best = IPCA(2, tol=1e-10).fit(Z, r)
    for model in (RegressedPCA(2), RegressedPCA(2, mean_weight=10), RegressedPCA(2, portfolios="managed")):
        assert model.fit(Z, r).total_r2_ <= best.total_r2_ + 1e-12
        assert (
            model.score(Z, r) == pytest.approx(model.predictive_r2_) and clone(model).get_params() == model.get_params()
        )
    assert np.allclose(RegressedPCA(2).fit(Z, r).predict(Z.to_numpy()), RegressedPCA(2).fit(Z, r).predict(Z))
    for wrong, message in (
        (RegressedPCA(portfolios="x"), "slopes or managed"),
        (RegressedPCA(mean_weight=-2), "or more"),
    ):
        with pytest.raises(DataError, match=message):
            wrong.fit(Z, r)


def test_folds_keep_dates_in_order_and_whole():
    index = index_of(20, 7, missing=0.3)
    t = index.get_level_values(0)
    folds = dates_in_order(index, folds=4)
    for past, span in folds:
        assert t[past].max() < t[span].min()
        assert set(t[span]).isdisjoint(t[past])
    assert sum(len(span) for _, span in folds) == (t >= t.unique().sort_values()[10]).sum()
    with pytest.raises(DataError, match="too few"):
        dates_in_order(index, folds=15)


def test_linear_benchmarks_are_scikit_learns_and_can_be_searched():
    Z, r, *_ = linear_panel(dates=24)
    for model in linear_benchmarks(2).values():
        assert np.isfinite(np.ravel(model.fit(Z, r).predict(Z))).all()
    search = GridSearchCV(linear_benchmarks()["ridge"], {"ridge__alpha": [1.0, 1e6]}, cv=dates_in_order(Z.index, 3))
    assert search.fit(Z, r).best_params_["ridge__alpha"] in (1.0, 1e6)


# Sorts and their judges


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), names=st.integers(4, 30), quantile=st.sampled_from([0.1, 0.2, 0.5]))
def test_weights_of_a_sort_balance(seed, names, quantile):
    rng, index = np.random.default_rng(seed), index_of(3, names, seed=seed)
    weights = sort_weights(
        pd.Series(rng.standard_normal(len(index)), index), quantile, pd.Series(rng.uniform(1, 9, len(index)), index)
    )
    assert np.allclose(weights.groupby(level=0).sum(), 0) and np.allclose(weights.abs().groupby(level=0).sum(), 2)


@pytest.mark.parametrize("values", [[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 2], [0, 0]])
@pytest.mark.parametrize("quantile", [0.1, 0.25, 0.5])
def test_ties_stand_on_one_side(values, quantile):
    forecast = pd.Series(values, index_of(1, len(values)), dtype=float)
    weights = sort_weights(forecast, quantile)
    assert weights.sum() == pytest.approx(0) and weights.abs().sum() == pytest.approx(2 if len(set(values)) > 1 else 0)
    assert weights.groupby(forecast).nunique().max() == 1


def test_a_sort_follows_the_forecast_and_holds_nothing_without_one():
    index = index_of(1, 10)
    weights = sort_weights(pd.Series(np.arange(10.0), index), 0.2)
    assert weights.tolist() == [-0.5, -0.5, 0, 0, 0, 0, 0, 0, 0.5, 0.5]
    assert (sort_weights(pd.Series(0.3, index), 0.2) == 0).all()
    with pytest.raises(DataError, match="quantile = 0.6"):
        sort_weights(pd.Series(0.3, index), 0.6)


def test_judges_agree_with_scipy_and_statsmodels():
    rng, index = np.random.default_rng(0), index_of(30, 25)
    f, r = pd.Series(rng.standard_normal(len(index)), index), pd.Series(rng.standard_normal(len(index)), index)
    told = information_coefficient(f, r)
    for date in index.levels[0]:
        assert told[date] == pytest.approx(spearmanr(f.loc[date], r.loc[date]).statistic)
    assert np.isnan(information_coefficient(0 * f, r)).all()
    fit = sm.OLS(told.to_numpy(), np.ones(30)).fit(cov_type="HAC", cov_kwds={"maxlags": 6})
    assert (mean_test(told).mean, mean_test(told).t) == pytest.approx((told.mean(), fit.tvalues[0]))
    assert np.isnan(diebold_mariano(r, f, f).t) and "dates" in repr(mean_test(told))
    assert diebold_mariano(r, 0.9 * r, f).t > 2 and np.isnan(mean_test(told.iloc[:0]).mean)
    assert r2_against_zero(r, 0 * r) == 0 and r2_against_zero(r, r) == 1


def signal(strength=0.03, seed=0, dates=120, names=150):
    rng, index = np.random.default_rng(seed), index_of(dates, names)
    Z = pd.DataFrame(rng.uniform(-0.5, 0.5, (len(index), 4)), index, list("abcd"))
    return Z, strength * ((Z["a"] > 0.1) & (Z["b"] > 0)) + pd.Series(rng.normal(0, 0.1, len(index)), index)


def test_a_planted_signal_is_forecast_and_noise_is_not():
    Z, r = signal()
    forecast = walk_forecasts(GBRTSortFactor(), Z, r, first=60, every=30)
    assert mean_test(information_coefficient(forecast, r.loc[forecast.index])).t > 3
    assert mean_test((sort_weights(forecast) * r).groupby(level=0).sum().iloc[60:]).mean > 0
    for seed in (1, 2):
        Z, r = signal(0.0, seed)
        told = walk_forecasts(GBRTSortFactor(), Z, r, first=60, every=30)
        assert r2_against_zero(r.loc[told.index], told) < 0.001


def test_forecasts_do_not_see_what_they_forecast():
    Z, r = signal(dates=60)
    changed = r.where(Z.index.get_level_values(0) < Z.index.levels[0][50], -r)
    one, two = (walk_forecasts(GBRTSortFactor(), Z, y, first=30, every=10) for y in (r, changed))
    assert one.equals(two)  # the last refit is at the 50th date
    with pytest.raises(DataError, match="leave some on both sides"):
        walk_forecasts(GBRTSortFactor(), Z, r, first=60)


def test_the_estimator_keeps_its_promises():
    Z, r = signal(dates=40)
    model = GBRTSortFactor().fit(Z, r)
    assert model.importance_.idxmax() in "ab" and 1 <= model.n_trees_ <= 1000
    assert model.score(Z, r) == r2_against_zero(r, model.predict(Z)) and model.predict(Z.to_numpy()).shape == (len(r),)
    assert model.portfolio(Z).groupby(level=0).sum().abs().max() < 1e-12
    flat = GBRTSortFactor().fit(
        Z, pd.Series(np.tile([0.01, -0.01], len(r) // 2), r.index) * np.random.default_rng(0).choice([1, -1], len(r))
    )
    assert flat.n_trees_ == 0 or flat.score(Z, r) < 0.05
    squares = GBRTSortFactor(huber=1.0).fit(Z, r, sample_weight=np.ones(len(r)))
    assert squares.n_trees_ >= 1
    with pytest.raises(NotFittedError):
        GBRTSortFactor().predict(Z)
    for wrong, message in (
        (lambda: GBRTSortFactor().fit(Z * np.nan, r), "finite"),
        (lambda: GBRTSortFactor(validation_share=0.0).fit(Z, r), "can't be split"),
    ):
        with pytest.raises(DataError, match=message):
            wrong()


# Nonlinear characteristics


def test_splines_hinge_at_even_knots():
    z = pd.DataFrame({"x": [-0.5, -0.2, 0.0, 0.4]})
    told = splines(z, knots=2, low=-0.5, high=0.5)
    assert told.columns.tolist() == ["x", "x>-0.17", "x>0.17"]
    assert told["x>0.17"].tolist() == pytest.approx([0, 0, 0, 0.4 - 1 / 6])
    with pytest.raises(DataError, match="give at least 1"):
        splines(z, knots=0)


def test_waves_approach_their_kernel_and_do_not_depend_on_the_rows():
    Z = pd.DataFrame(np.random.default_rng(0).uniform(-0.5, 0.5, (6, 3)))
    waves = random_waves(Z, 30_000)
    kernel = np.exp(-((Z.to_numpy()[:, None] - Z.to_numpy()[None]) ** 2).sum(axis=2) / 2)
    assert np.abs(waves.to_numpy() @ waves.to_numpy().T - kernel).max() < 0.02
    assert np.allclose(random_waves(Z.iloc[2:3], 5), random_waves(Z, 5).iloc[2:3])
    with pytest.raises(DataError, match="width above 0"):
        random_waves(Z, width=0)


# Combinations


def test_shares_by_closed_forms():
    rng = np.random.default_rng(0)
    r, F = rng.normal(0, 0.1, 400), rng.normal(0, 0.1, (400, 2))
    assert shares(F, r, "equal").tolist() == [0.5, 0.5]
    errors = np.mean((r[:, None] - F) ** 2, axis=0)
    assert shares(F, r, "inverse_error") == pytest.approx(errors[::-1] / errors.sum())
    both = np.column_stack([r, 2 * r + 1e-3 * F[:, 0]])
    assert both @ shares(both, r, "stacking") == pytest.approx(r, abs=1e-6)
    assert (shares(np.column_stack([-r]), r, "stacking") == 0).all()
    with pytest.raises(DataError, match="equal, inverse_error, stacking"):
        shares(F, r, "best")


def test_shares_are_learnt_out_of_sample():
    Z, r, *_ = linear_panel(dates=40, names=30)

    class Memory(LinearRegression):
        "Knows the rows that it has seen, and nothing else."

        def fit(self, X, y):
            self.seen_ = pd.Series(np.asarray(y), X.index)
            return self

        def predict(self, X):
            return self.seen_.reindex(X.index).fillna(0.0).to_numpy()

    model = CombinedForecast({"memory": Memory(), "line": LinearRegression()}).fit(Z, r)
    assert model.shares_["memory"] == 0 and model.shares_["line"] > 0
    assert model.score(Z, r) == pytest.approx(r2_against_zero(r, model.predict(Z)))
    with pytest.raises(DataError, match="none given"):
        CombinedForecast().fit(Z, r)
    with pytest.raises(NotFittedError):
        CombinedForecast({"line": LinearRegression()}).predict(Z)
