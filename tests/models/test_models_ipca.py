"Instrumented PCA: published vectors, closed forms, and what must not change an answer."

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import linear_panel
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mlt_lib.errors import DataError
from mlt_lib.models.als import alternate, factor_step, identify, loading_step
from mlt_lib.models.ipca import IPCA, r_squared
from mlt_lib.models.managed import managed_portfolios

# statsmodels' Grunfeld data, value and capital, no constant, the year as date; two implementations agree to 1e-13
GRUNFELD = {
    (1, False): dict(
        gamma=[[0.9916602042], [0.1288799422]], sse=1360207.2410425, mean=[0.1324550916],
        r2=(0.9001451073, 0.8234028999, 0.9999385106, 0.9038494385),
        first=[0.1031968176, 0.0884489337, 0.0838496470, 0.0845069810, 0.0722523340],
    ),
    (2, False): dict(
        gamma=[[0.9690275339, -0.2469527049], [0.2469527049, 0.9690275339]], sse=1308436.314677364,
        mean=[0.1372093086, 0.0070051915], r2=(0.9039456902, 0.8331137601, 1.0, 0.9183053375),
        first=[0.0994813068, 0.09248006136, 0.1223067529],
    ),
    (1, True): dict(
        gamma=[[0.9990173624], [-0.0443205331]], alpha=[0.0012347394, 0.0278319334], sse=1359760.172456042,
        mean=[0.1301209054], r2=(0.9001779273, 0.8256477955, 0.9999292629, 0.9070176668),
        first=[0.1009912096, 0.0862718622, 0.0814294395],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def grunfeld():
    data = sm.datasets.grunfeld.load_pandas().data.set_index(["year", "firm"])
    return data[["value", "capital"]], data["invest"]


@pytest.mark.parametrize("case", GRUNFELD)
@pytest.mark.parametrize("memory", [0, 10])
def test_published_numbers(grunfeld, case, memory):
    told, model = GRUNFELD[case], IPCA(*case, tol=1e-13, memory=memory).fit(*grunfeld)
    assert model.gamma_.to_numpy() == pytest.approx(np.array(told["gamma"]), abs=1e-9)
    assert model.alpha_.to_numpy() == pytest.approx(np.array(told.get("alpha", [0, 0])), abs=1e-9)
    assert model.objective_path_[-1] == pytest.approx(told["sse"], rel=1e-12)
    assert model.risk_premium_.to_numpy() == pytest.approx(np.array(told["mean"]), abs=1e-9)
    assert model.factors_["f1"].iloc[: len(told["first"])].tolist() == pytest.approx(told["first"], abs=1e-9)
    found = (model.total_r2_, model.predictive_r2_, model.portfolio_total_r2_, model.portfolio_predictive_r2_)
    assert found == pytest.approx(told["r2"], abs=1e-9)


def test_with_the_identity_for_characteristics_it_is_principal_components():
    rng, names, dates = np.random.default_rng(0), 6, 40
    returns = rng.standard_normal((dates, names)) @ rng.standard_normal((names, names))
    index = pd.MultiIndex.from_product([pd.RangeIndex(dates), pd.RangeIndex(names)], names=["date", "symbol"])
    Z, r = pd.DataFrame(np.tile(np.eye(names), (dates, 1)), index), pd.Series(returns.ravel(), index)
    model = IPCA(2, tol=1e-12).fit(Z, r)
    vectors = np.linalg.svd(returns.T)[0][:, :2]
    assert np.abs(model.gamma_.to_numpy() @ model.gamma_.to_numpy().T - vectors @ vectors.T).max() < 1e-10


def test_as_many_factors_as_characteristics_explain_the_portfolios_wholly():
    Z, r, *_ = linear_panel(width=3, latent=2)
    assert IPCA(3).fit(Z, r).portfolio_total_r2_ == pytest.approx(1, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000), latent=st.integers(1, 3), intercept=st.booleans(), missing=st.sampled_from([0.0, 0.3])
)
def test_an_exact_world_is_recovered(seed, latent, intercept, missing):
    Z, r, gamma, factors = linear_panel(width=5, latent=latent, noise=0.0, seed=seed, missing=missing)
    model = IPCA(latent, tol=1e-12).fit(Z, r)
    true, f = identify(gamma, factors, latent)
    assert np.abs(model.gamma_.to_numpy() - true).max() < 1e-8
    assert np.abs(model.factors_.to_numpy() - f).max() < 1e-8
    assert model.total_r2_ == pytest.approx(1, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), latent=st.integers(1, 3), intercept=st.booleans(), memory=st.sampled_from([0, 5, 10]),
       ridge=st.sampled_from([0.0, 0.1]), sparsity=st.sampled_from([0.0, 0.02]))  # fmt: skip
def test_no_round_raises_the_objective_and_the_convention_holds(seed, latent, intercept, memory, ridge, sparsity):
    Z, r, *_ = linear_panel(width=5, latent=2, seed=seed)
    model = IPCA(latent, intercept, memory=memory, ridge=ridge, sparsity=sparsity, tol=1e-7, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(Z, r)
    assert (np.diff(model.objective_path_) <= 1e-10 * model.objective_path_[0]).all()
    gamma, f = model.gamma_.to_numpy(), model.factors_.to_numpy()
    moments = f.T @ f / len(f)
    assert np.allclose(gamma.T @ gamma, np.eye(latent), atol=1e-10)
    assert np.allclose(moments, np.diag(np.diag(moments)), atol=1e-10) and (np.diff(np.diag(moments)) <= 1e-12).all()
    assert (f.mean(axis=0) >= 0).all() and np.allclose(gamma.T @ model.alpha_.to_numpy(), 0, atol=1e-10)


def test_the_identified_fit_is_the_fit():
    Z, r, *_ = linear_panel(width=5, latent=2)
    panel, rng = managed_portfolios(Z, r), np.random.default_rng(0)
    gamma, factors = rng.standard_normal((5, 3)), np.column_stack([rng.standard_normal((60, 2)), np.ones(60)])
    after = identify(gamma, factors, 2)
    assert np.allclose(factors @ gamma.T, after[1] @ after[0].T)
    assert r_squared(panel, gamma, factors) == pytest.approx(r_squared(panel, *after))


def test_both_steps_equal_kronecker_products_written_out():
    Z, r, *_ = linear_panel(dates=12, names=9, width=4, latent=2, missing=0.2)
    panel, rng = managed_portfolios(Z, r), np.random.default_rng(4)
    gamma, ones = rng.standard_normal((4, 3)), np.ones((12, 1))
    factors, explained = factor_step(panel.W, panel.X, gamma, ones)
    for t, date in enumerate(panel.dates):
        z, y = Z.loc[date].to_numpy(), r.loc[date].to_numpy()
        beta = z @ gamma
        latent = np.linalg.lstsq(beta[:, :2], y - beta[:, 2], rcond=None)[0]
        assert np.allclose(factors[t], [*latent, 1])
        assert explained[t] == pytest.approx(y @ y - np.sum((y - beta @ factors[t]) ** 2))
    left = sum(np.kron(W, np.outer(f, f)) for W, f in zip(panel.W, factors, strict=True))
    right = sum(np.kron(X, f) for X, f in zip(panel.X, factors, strict=True))
    assert np.allclose(loading_step(panel.W, panel.X, factors).ravel(), np.linalg.solve(left, right))


def test_other_words_for_the_same_characteristics_fit_alike():
    Z, r, *_ = linear_panel(width=4, latent=2)
    turn = np.random.default_rng(2).standard_normal((4, 4))
    turned = pd.DataFrame(Z.to_numpy() @ turn, Z.index, list("abcd"))
    one, two = IPCA(2, tol=1e-11).fit(Z, r), IPCA(2, tol=1e-11).fit(turned, r)
    assert (
        np.abs(
            one.loadings(Z).to_numpy() @ one.factors_.to_numpy().T
            - two.loadings(turned).to_numpy() @ two.factors_.to_numpy().T
        ).max()
        < 1e-8
    )


def test_the_order_of_rows_and_the_names_of_assets_mean_nothing():
    Z, r, *_ = linear_panel(missing=0.2)
    order = np.random.default_rng(0).permutation(len(r))
    one, two = IPCA(2, tol=1e-11).fit(Z, r), IPCA(2, tol=1e-11).fit(Z.iloc[order], r.iloc[order])
    assert np.abs(one.gamma_ - two.gamma_).to_numpy().max() < 1e-8


def test_equal_weights_are_none():
    Z, r, *_ = linear_panel()
    one, two = IPCA(2, tol=1e-11).fit(Z, r), IPCA(2, tol=1e-11).fit(Z, r, sample_weight=np.full(len(r), 3.0))
    assert np.abs(one.gamma_ - two.gamma_).to_numpy().max() < 1e-9 and one.total_r2_ == pytest.approx(two.total_r2_)


def test_the_short_cut_leads_to_the_same_place_in_fewer_rounds():
    Z, r, *_ = linear_panel(dates=120, names=60, width=12, latent=4, noise=0.15, seed=3)
    plain, short = IPCA(4, memory=0, tol=1e-9).fit(Z, r), IPCA(4, tol=1e-9).fit(Z, r)
    assert plain.n_iter_ >= 20 and short.n_iter_ <= plain.n_iter_ / 2
    assert np.abs(plain.gamma_ - short.gamma_).to_numpy().max() < 1e-6


def test_a_date_appended_is_a_date_fitted():
    Z, r, *_ = linear_panel(dates=40)
    early = Z.index.get_level_values(0) < "2003-02-15"
    model = IPCA(2, intercept=True, tol=1e-11).fit(Z[early], r[early]).partial_fit(Z[~early], r[~early])
    whole = IPCA(2, intercept=True, tol=1e-11).fit(Z, r)
    assert np.abs(model.gamma_ - whole.gamma_).to_numpy().max() < 1e-8
    assert model.factors_.index.equals(whole.factors_.index)
    assert IPCA(2).partial_fit(Z, r).total_r2_ == pytest.approx(IPCA(2).fit(Z, r).total_r2_)


def test_observed_factors_stand_beside_latent_ones():
    Z, r, gamma, factors = linear_panel(dates=80, width=4, latent=2, noise=0.0)
    given = pd.DataFrame({"market": factors[:, 0]}, Z.index.levels[0])
    model = IPCA(1, tol=1e-11).fit(Z, r, observed=given)
    assert model.total_r2_ == pytest.approx(1, abs=1e-9)
    whole = IPCA(1, tol=1e-11, intercept=True).fit(Z, r, observed=given)
    assert list(whole.delta_.columns) == ["market", "alpha"] and whole.total_r2_ == pytest.approx(1, abs=1e-9)
    with pytest.raises(DataError, match="no factors on 2006-08-31"):
        IPCA(1).fit(Z, r, observed=given.iloc[:-1])
    with pytest.raises(DataError, match="not finite"):
        IPCA(1).fit(Z, r, observed=given * np.nan)
    with pytest.raises(DataError, match="observed factors"):
        model.realised_factors(Z, r)


def test_the_group_penalty_drops_what_does_nothing():
    Z, r, *_ = linear_panel(dates=150, names=60, width=3, latent=1, noise=0.05, seed=1)
    wide = Z.assign(**{f"noise{k}": np.random.default_rng(k).uniform(-0.5, 0.5, len(Z)) for k in range(4)})
    rows = IPCA(1, sparsity=0.01, tol=1e-9, max_iter=2000).fit(wide, r).gamma_["f1"].abs()
    free = IPCA(1).fit(wide, r).gamma_["f1"].abs()
    assert rows[[f"noise{k}" for k in range(4)]].max() < 1e-6 < free[[f"noise{k}" for k in range(4)]].min()


def test_a_ridge_shrinks_what_loadings_explain():
    Z, r, *_ = linear_panel()
    fits = [IPCA(2, ridge=ridge).fit(Z, r).total_r2_ for ridge in (0.0, 0.1, 1.0)]
    assert fits[0] > fits[1] > fits[2]


def test_more_starts_are_never_worse():
    Z, r, *_ = linear_panel(width=6, latent=3, noise=0.2)
    model = IPCA(3, n_starts=4).fit(Z, r)
    assert len(model.starts_) == 4 and model.objective_path_[-1] == model.starts_["objective"].min()
    assert model.objective_path_[-1] <= IPCA(3).fit(Z, r).objective_path_[-1] + 1e-12


def test_predictions_and_realised_factors():
    Z, r, *_ = linear_panel()
    model = IPCA(2, intercept=True).fit(Z, r)
    assert np.allclose(model.predict(Z), Z @ model.alpha_ + model.loadings(Z) @ model.risk_premium_)
    assert np.allclose(model.realised_factors(Z, r), model.factors_, atol=1e-10)
    assert model.score(Z, r) == pytest.approx(model.predictive_r2_)
    assert np.array_equal(model.predict(Z.to_numpy()), model.predict(Z).to_numpy())


def test_it_fits_in_where_scikit_learn_expects_an_estimator():
    Z, r, *_ = linear_panel(width=4)
    search = GridSearchCV(
        IPCA(), {"n_factors": [1, 2, 3]}, cv=[(np.arange(len(r) // 2), np.arange(len(r) // 2, len(r)))]
    )
    assert search.fit(Z, r).best_params_["n_factors"] in (1, 2, 3)
    flow = make_pipeline(FunctionTransformer(lambda z: z.assign(c0=-z["c0"])), IPCA(2)).fit(Z, r)
    assert flow[-1].gamma_.loc["c0"].abs().to_numpy() == pytest.approx(
        IPCA(2).fit(Z, r).gamma_.loc["c0"].abs().to_numpy(), abs=1e-4
    )
    assert clone(IPCA(5, ridge=0.2)).get_params()["ridge"] == 0.2


def test_arrays_are_taken_with_their_dates():
    Z, r, *_ = linear_panel()
    dates = Z.index.get_level_values(0).to_numpy()
    one, two = IPCA(2).fit(Z, r), IPCA(2).fit(Z.to_numpy(), r.to_numpy(), dates=dates)
    assert np.allclose(one.gamma_, two.gamma_)
    assert two.loadings(Z.to_numpy()).shape == (len(r), 2)
    with pytest.raises(DataError, match="pass dates="):
        IPCA(2).fit(Z.to_numpy(), r.to_numpy())
    with pytest.raises(DataError, match="give n x L"):
        IPCA(2).fit(Z.to_numpy(), r.to_numpy()[:-1], dates=dates)


def test_what_was_not_fitted_or_does_not_match_is_said():
    Z, r, *_ = linear_panel()
    with pytest.raises(NotFittedError, match="call fit"):
        IPCA().predict(Z)
    model = IPCA(2).fit(Z, r)
    with pytest.raises(DataError, match="fitted on"):
        model.predict(Z[Z.columns[::-1]])
    with pytest.raises(DataError, match="expecting 4 features"):
        model.predict(Z.to_numpy()[:, :2])
    with pytest.raises(DataError, match="not finite"):
        model.predict(Z * np.nan)
    with pytest.warns(ConvergenceWarning, match="still move"):
        IPCA(2, max_iter=1).fit(Z, r)


def test_a_date_with_collinear_loadings_is_survived():
    Z, r, *_ = linear_panel(dates=30)
    first = Z.index.get_level_values(0) == Z.index.levels[0][0]
    flat = Z.mask(np.tile(first[:, None], (1, 4)) & (Z.columns != "constant"), 0.0)
    solved = alternate(managed_portfolios(flat, r), np.eye(4)[:, :2], np.empty((30, 0)), max_iter=50)
    assert np.isfinite(solved.gamma).all() and np.isfinite(solved.factors).all()
