"Portfolios of an instrumented PCA, and what it does out of sample."

import numpy as np
import pandas as pd
import pytest
from panels import linear_panel

from mlt_lib.errors import DataError, SettingsError
from mlt_lib.models.ipca import IPCA
from mlt_lib.models.ipca_out_of_sample import out_of_sample
from mlt_lib.models.ipca_portfolios import arbitrage_weights, mimicking_weights, risk_premium, tangency_weights
from mlt_lib.models.managed import managed_portfolios


def test_factors_are_returns_of_portfolios_known_beforehand():
    Z, r, *_ = linear_panel(missing=0.2)
    model = IPCA(2).fit(Z, r)
    weights = mimicking_weights(model, Z)
    assert np.allclose(weights.mul(r, axis=0).groupby(level=0).sum(), model.factors_, atol=1e-12)
    beta = model.loadings(Z)
    for date in Z.index.levels[0][:3]:
        assert np.allclose(weights.loc[date].T @ beta.loc[date], np.eye(2), atol=1e-10)
    seen = IPCA(1).fit(Z, r, observed=pd.DataFrame({"m": 0.1}, Z.index.levels[0]) * np.arange(60)[:, None])
    with pytest.raises(DataError, match="observed factors"):
        mimicking_weights(seen, Z)


def test_no_portfolio_of_the_factors_beats_tangency():
    f = pd.DataFrame(np.random.default_rng(0).normal([0.01, 0.02, 0.0], 0.05, (200, 3)), columns=list("abc"))
    best = f @ tangency_weights(f)
    assert best.std() == pytest.approx(0.01)
    for seed in range(50):
        other = f @ np.random.default_rng(seed).standard_normal(3)
        assert other.mean() / other.std() <= best.mean() / best.std() + 1e-12
    one = tangency_weights(f[["a"]])
    assert (f[["a"]] @ one).std() == pytest.approx(0.01)


def test_premia_by_closed_forms():
    f = pd.DataFrame({"a": np.arange(1.0, 6.0)})
    assert risk_premium(f)["a"] == 3
    assert risk_premium(f, "ewma", halflife=1)["a"] == pytest.approx((5 + 4 / 2 + 3 / 4 + 2 / 8 + 1 / 16) / (31 / 16))
    assert risk_premium(f, "var")["a"] == pytest.approx(6)
    with pytest.raises(SettingsError, match="mean, ewma, var"):
        risk_premium(f, "guess")


def test_the_arbitrage_portfolio_has_no_exposure_and_earns_alpha_squared():
    Z, r, *_ = linear_panel(latent=1, alpha=[0.02, 0, 0, 0])
    model = IPCA(1, intercept=True).fit(Z, r)
    w = arbitrage_weights(model, Z)
    assert (model.loadings(Z).mul(w, axis=0).groupby(level=0).sum().abs() < 1e-10).all(axis=None)
    assert ((Z @ model.alpha_) * w).groupby(level=0).sum().to_numpy() == pytest.approx(
        float(model.alpha_ @ model.alpha_)
    )
    with pytest.raises(DataError, match="no alpha"):
        arbitrage_weights(IPCA(1).fit(Z, r), Z)


def test_out_of_sample_equals_fits_written_out():
    Z, r, *_ = linear_panel(dates=30, names=25, latent=1, width=3)
    panel = managed_portfolios(Z, r)
    walked = out_of_sample(IPCA(1, tol=1e-11), panel, first=20)
    left = told = 0.0
    for t in range(20, 30):
        past = Z.index.get_level_values(0) < panel.dates[t]
        model = IPCA(1, tol=1e-11).fit(Z[past], r[past])
        z, y = Z.loc[[panel.dates[t]]], r.loc[[panel.dates[t]]]
        left += np.sum((y - model.loadings(z)["f1"] * model.realised_factors(z, y)["f1"].iloc[0]) ** 2)
        told += np.sum((y - model.predict(z)) ** 2)
    squares = np.sum(r.loc[panel.dates[20] :] ** 2)
    assert walked.total_r2 == pytest.approx(1 - left / squares, abs=1e-9)
    assert walked.predictive_r2 == pytest.approx(1 - told / squares, abs=1e-9)
    assert walked.refits == 10 and "10 dates out of sample" in repr(walked)


def test_the_future_changes_nothing_before_it():
    Z, r, *_ = linear_panel(dates=30, names=25)
    changed = r.where(Z.index.get_level_values(0) < r.index[-1][0], -r)
    one = out_of_sample(IPCA(2), managed_portfolios(Z, r), first=20, window=20, every=3)
    two = out_of_sample(IPCA(2), managed_portfolios(Z, changed), first=20, window=20, every=3)
    assert np.array_equal(one.factors.iloc[:-1], two.factors.iloc[:-1])
    assert np.array_equal(one.tangency.iloc[:-1], two.tangency.iloc[:-1]) and one.refits == 4


def test_what_cannot_be_walked_is_said():
    Z, r, *_ = linear_panel(dates=10, names=8)
    panel, seen = managed_portfolios(Z, r), []
    for given, message in (
        (dict(first=10), "leave some to judge"),
        (dict(first=5, window=6), "at most first"),
        (dict(first=5, every=0), "1 or more"),
    ):
        with pytest.raises(DataError, match=message):
            out_of_sample(IPCA(1), panel, **given)
    out_of_sample(IPCA(1), panel, first=8, progress=lambda *done: seen.append(done))
    assert seen == [(1, 2), (2, 2)]
