"Bootstrap tests: their size, their power, and the same answer on any number of cores."

import numpy as np
import pandas as pd
import pytest
from panels import linear_panel

from mlt_lib.errors import DataError
from mlt_lib.models.inference import FREEDOM, alpha_test, beta_test, delta_test, every_beta_test, resampled
from mlt_lib.models.ipca import IPCA
from mlt_lib.models.managed import managed_portfolios


def test_residuals_keep_their_size():
    Z, r, *_ = linear_panel(dates=400, names=10)
    panel, rng = managed_portfolios(Z, r), np.random.default_rng(0)
    residuals = np.random.default_rng(1).standard_normal(panel.X.shape)
    drawn = [resampled(panel, np.zeros_like(panel.X), residuals, rng).var() for _ in range(200)]
    assert np.mean(drawn) == pytest.approx(residuals.var(), rel=0.05) and FREEDOM == 5


def test_residuals_travel_per_name_held():
    Z, r, *_ = linear_panel(dates=2, names=10)
    thin = (Z.index.get_level_values(0) == Z.index[0][0]) | Z.index.get_level_values(1).isin(["S000", "S001"])
    panel = managed_portfolios(Z[thin], r[thin])  # ten names, then two
    residuals = np.array([[10.0] * 4, [2.0] * 4])  # one a name on either date
    seen = [
        resampled(panel, np.zeros((2, 4)), residuals, np.random.default_rng(s))[:, 0] / panel.counts
        for s in range(2000)
    ]
    assert np.mean(np.square(seen), axis=0) == pytest.approx([1, 1], rel=0.25)


def test_the_size_is_five_percent_within_its_error():
    rejected = []
    for seed in range(60):
        Z, r, *_ = linear_panel(dates=60, names=40, width=4, latent=1, noise=0.1, seed=seed)
        model = IPCA(1, intercept=True, tol=1e-5).fit(Z, r)
        rejected.append(alpha_test(model, draws=59, n_jobs=1, random_state=seed).p_value <= 0.05)
    share, error = np.mean(rejected), np.sqrt(0.05 * 0.95 / 60)
    assert abs(share - 0.05) < 3 * error


def test_a_planted_alpha_and_a_planted_characteristic_are_found():
    Z, r, *_ = linear_panel(dates=80, names=60, width=4, latent=1, noise=0.05, alpha=[0.03, -0.03, 0, 0], seed=2)
    model = IPCA(1, intercept=True, tol=1e-6).fit(Z, r)
    found = alpha_test(model, draws=99, n_jobs=1)
    assert found.p_value == 0 and found.error > 0 and "no alpha" in repr(found)
    table = every_beta_test(IPCA(1).fit(Z, r), draws=59, n_jobs=1)
    assert table.loc["constant", "p"] < 0.05
    assert beta_test(model, ["c0", "c1"], draws=19, n_jobs=1).what == "c0, c1 irrelevant"


def test_an_observed_factor_is_judged():
    Z, r, gamma, factors = linear_panel(dates=80, names=60, width=4, latent=2, noise=0.05)
    given = pd.DataFrame(
        {"true": factors[:, 1], "noise": np.random.default_rng(9).normal(0, 0.05, 80)}, Z.index.levels[0]
    )
    model = IPCA(1, tol=1e-6).fit(Z, r, observed=given)
    assert delta_test(model, "true", draws=59, n_jobs=1).p_value < 0.05
    alone = IPCA(2, tol=1e-6).fit(Z, r, observed=given[["noise"]])
    assert delta_test(alone, "noise", draws=59, n_jobs=1).p_value > 0.05


def test_cores_share_the_work_and_not_the_answer():
    Z, r, *_ = linear_panel(dates=40, names=20, latent=1)
    model = IPCA(1, intercept=True).fit(Z, r)
    one, two = alpha_test(model, draws=40, n_jobs=1), alpha_test(model, draws=40, n_jobs=2)
    assert np.array_equal(one.draws, two.draws)
    assert one.plot().get_title() == repr(one)


def test_what_cannot_be_tested_is_said():
    Z, r, *_ = linear_panel(dates=30, names=20, latent=1)
    plain = IPCA(1).fit(Z, r)
    for ask, message in (
        (lambda: alpha_test(IPCA(1)), "not fitted"),
        (lambda: alpha_test(plain), "no intercept"),
        (lambda: beta_test(plain, "size"), "no characteristic 'size'"),
        (lambda: delta_test(plain, "market"), "no observed factor 'market'; it has none"),
        (lambda: beta_test(plain, "c0", draws=0), "at least 1"),
        (lambda: beta_test(IPCA(1, ridge=0.1).fit(Z, r), "c0"), "penalised"),
    ):
        with pytest.raises(DataError, match=message):
            ask()
