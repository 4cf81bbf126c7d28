"Trees that sort, trees that bend betas, leaves as instruments, forecasts by trees: each against a truth that is known."

import numpy as np
import pandas as pd
import pytest
from panels import index_of
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from mlt_lib.errors import DataError
from mlt_lib.models.boosted_beta import BoostedBeta, Rows, explained, factors_given
from mlt_lib.models.interactions import branch_pairs, forest_exposure, friedman_h, importance, product_instruments
from mlt_lib.models.ipca import IPCA
from mlt_lib.models.leaf_portfolios import candidate_scores, cut_portfolios, efficient, sharpe_of
from mlt_lib.models.ptree import PTree, draw
from mlt_lib.models.tree_instruments import TreeInstrumentIPCA, independent, leaf_columns
from mlt_lib.models.trees import GBRTSortFactor

# Panel trees


def planted(names=300, dates=60, width=8, seed=0, strength=1.0):
    rng, index = np.random.default_rng(seed), index_of(dates, names)
    Z = pd.DataFrame(rng.uniform(-1, 1, (len(index), width)), index, [f"z{k}" for k in range(width)])
    extra = strength * (0.006 * ((Z["z0"] > 0.2) & (Z["z3"] < -0.2)) - 0.004 * (Z["z5"] > 0.6))
    market = rng.normal(0.004, 0.03, dates).repeat(names)
    return Z, extra + market + rng.normal(0, 0.05, len(index))


def test_the_planted_splits_are_found_in_order():
    rng, index = np.random.default_rng(0), pd.MultiIndex.from_product([pd.RangeIndex(240), pd.RangeIndex(1000)])
    Z = pd.DataFrame(rng.uniform(-1, 1, (len(index), 61)), index, [f"z{k}" for k in range(61)])
    extra = 0.006 * ((Z["z0"] > 0.2) & (Z["z3"] < -0.2)) - 0.004 * (Z["z5"] > 0.6)
    r = extra + (1 + 0.5 * Z["z7"]) * rng.normal(0.004, 0.03, 240).repeat(1000) + rng.normal(0, 0.12, len(index))
    tree = PTree(n_leaves=4).fit(Z, r)
    assert tree.splits_[["node", "characteristic", "cut"]].to_numpy().tolist() == [
        [1, "z3", -0.2],
        [2, "z0", 0.2],
        [3, "z5", 0.6],
    ]


@pytest.mark.parametrize("given", [None, "benchmark"])
def test_fast_scores_are_those_of_plain_loops(given):
    rng, T = np.random.default_rng(1), 24
    t, z, w = np.repeat(np.arange(T), 40), rng.uniform(-1, 1, (T * 40, 2)), rng.uniform(0.5, 2, T * 40)
    r, cuts = rng.normal(0.01, 0.05, T * 40), (-0.6, -0.2, 0.2, 0.6)
    sides, fewest = cut_portfolios(np.searchsorted(cuts, z), t, w, w * r, T, 4)
    stay = [rng.normal(0, 0.04, T)]
    bench = None if given is None else rng.normal(0, 0.04, (T, 1))
    for j in range(2):
        scores = candidate_scores(stay, sides[j, :, 0], sides[j, :, 1], bench, 1e-4, 1e-5)
        for c, cut in enumerate(cuts):
            R, count = [stay[0]], []
            for side in (z[:, j] <= cut, z[:, j] > cut):
                R.append([np.average(r[(t == k) & side], weights=w[(t == k) & side]) for k in range(T)])
                count.append(min(((t == k) & side).sum() for k in range(T)))
            R = np.array(R).T
            weights = np.linalg.solve(R.T @ R / T + 1e-4 * np.eye(3), R.mean(axis=0))
            f = R @ (weights / np.abs(weights).sum())
            if bench is not None:
                both = np.column_stack([f, bench])
                f = both @ np.linalg.solve(both.T @ both / T + 1e-5 * np.eye(2), both.mean(axis=0))
            assert scores[c] == pytest.approx(abs(f.mean()) / f.std() * 12**0.5) and fewest[j, c] == min(count)


def test_a_ptree_keeps_its_promises():
    Z, r = planted()
    tree = PTree(n_leaves=6, min_leaf=10).fit(Z, r)
    names = pd.Series(tree.leaf_, Z.index).groupby(level=0).value_counts().unstack(fill_value=0)
    assert (names >= 10).all(axis=None) and len(tree.leaves_) == len(tree.splits_) + 1
    assert np.array_equal(tree.apply(Z), tree.leaf_)
    assert np.allclose((tree.portfolio(Z) * r).groupby(level=0).sum(), tree.factor_, atol=1e-14)
    assert (np.diff(tree.sharpe_path_) > 0).all() and tree.weights_.abs().sum() == pytest.approx(1)
    assert tree.predict(Z).shape == (len(Z),) and len(draw(tree).texts) == len(tree.leaves_) + len(tree.splits_)


def test_order_of_rows_and_monotone_maps_before_ranking_mean_nothing():
    Z, r = planted(names=160)
    order = np.random.default_rng(0).permutation(len(r))
    one, two = PTree(4).fit(Z, r), PTree(4).fit(Z.iloc[order], r.iloc[order])
    assert one.splits_[["node", "characteristic", "cut"]].equals(two.splits_[["node", "characteristic", "cut"]])


def test_one_leaf_is_the_weighted_market():
    Z, r = planted(names=160, dates=24)
    w = pd.Series(np.random.default_rng(0).uniform(1, 5, len(r)), r.index)
    tree = PTree(n_leaves=1).fit(Z, r, sample_weight=w)
    market = (w * r).groupby(level=0).sum() / w.groupby(level=0).sum()
    assert np.allclose(tree.portfolios_[1], market) and np.allclose(tree.factor_, np.sign(market.mean()) * market)


def test_a_second_tree_adds_to_the_first():
    Z, r = planted(strength=3.0)
    first = PTree(3).fit(Z, r)
    second = PTree(3).fit(Z, r, benchmark=first.factor_.to_frame())
    assert second.sharpe_path_[-1] > first.sharpe_path_[-1]
    with pytest.raises(DataError, match="one row for each date"):
        PTree(3).fit(Z, r, benchmark=first.factor_.to_frame().iloc[1:])


def test_a_tree_of_few_names_is_refused_and_as_an_experiment_is_the_market():
    Z, r = planted(names=20)
    with pytest.raises(DataError, match="20 names on a median date"):
        PTree().fit(Z, r)
    with pytest.warns(UserWarning, match="the tree is the market"):
        tree = PTree(least_names=0).fit(Z, r)
    assert tree.leaves_ == [1] and np.allclose(tree.factor_.abs(), r.groupby(level=0).mean().abs())


def test_what_a_ptree_cannot_take_is_said():
    Z, r = planted(names=160, dates=12)
    for change, message in (
        (lambda: PTree().fit(2 * Z, r), "'z0' leaves"),
        (lambda: PTree().fit(Z, r * np.nan), "finite"),
        (lambda: PTree().fit(Z, r, sample_weight=np.zeros(len(r))), "above 0"),
    ):
        with pytest.raises(DataError, match=message):
            change()
    with pytest.raises(NotFittedError):
        PTree().apply(Z)


def test_efficient_weights_by_closed_form():
    moments, means = np.array([[0.02, 0.01], [0.01, 0.05]]), np.array([0.01, 0.02])
    weights = efficient(moments, means, 0.0)
    assert weights == pytest.approx(np.linalg.inv(moments) @ means / np.abs(np.linalg.inv(moments) @ means).sum())
    assert float(sharpe_of(np.array([[0.05]]), np.array([0.1]), np.array([1.0]))) == pytest.approx(0.1 / 0.2 * 12**0.5)


# Boosted betas


def world(beta, dates=160, names=100, seed=0, noise=0.08):
    rng, index = np.random.default_rng(seed), index_of(dates, names)
    Z = pd.DataFrame(rng.uniform(-0.5, 0.5, (len(index), 4)), index, list("abcd")).assign(constant=1.0)
    f = rng.normal(0.01, 0.05, dates)[index.codes[0]]
    return Z, beta(Z) * f + rng.normal(0, noise, len(index)), beta(Z), np.asarray(index.codes[0]) < dates // 2


def corner(Z):
    return 0.5 + ((Z["a"] > 0.1) & (Z["b"] < -0.1))


def test_without_trees_it_is_ipca():
    Z, r, *_ = world(corner)
    for latent in (1, 2):
        boosted, ipca = BoostedBeta(latent, n_rounds=0).fit(Z, r), IPCA(latent).fit(Z, r)
        mine = np.einsum("nk,nk->n", boosted.loadings(Z), boosted.factors_.loc[Z.index.get_level_values(0)])
        its = np.einsum("nk,nk->n", ipca.loadings(Z), ipca.factors_.loc[Z.index.get_level_values(0)])
        assert np.abs(mine - its).max() < 1e-9 and boosted.rounds_ == 0
        assert boosted.total_r2_ == pytest.approx(ipca.total_r2_, abs=1e-9)
        assert boosted.predict(Z).to_numpy() == pytest.approx(ipca.predict(Z).to_numpy(), abs=1e-9)


def test_half_of_the_gap_to_the_oracle_is_closed_and_a_line_costs_nothing():
    gaps, costs = [], []
    for seed in range(3):
        Z, r, beta, seen = world(corner, dates=240, names=150, seed=seed, noise=0.1)
        rows, true = Rows.of(Z[~seen], r[~seen]), beta[~seen].to_numpy()[:, None]
        oracle = explained(true, factors_given(true, rows), rows)
        one, two = (BoostedBeta(n_rounds=m).fit(Z[seen], r[seen]).total_r2(Z[~seen], r[~seen]) for m in (0, 200))
        gaps.append((two - one) / (oracle - one))
        Z, r, *_ = world(lambda Z: 1 + Z["a"] - Z["b"], dates=240, names=150, seed=seed, noise=0.1)
        one, two = (BoostedBeta(n_rounds=m).fit(Z[seen], r[seen]).total_r2(Z[~seen], r[~seen]) for m in (0, 200))
        costs.append(one - two)
    assert np.mean(gaps) >= 0.5 and np.mean(costs) < 0.002


def test_shuffled_characteristics_give_no_gain():
    Z, r, _, seen = world(corner)
    order = np.concatenate([k * 100 + np.random.default_rng(k).permutation(100) for k in range(160)])
    mixed = pd.DataFrame(Z.to_numpy()[order], Z.index, Z.columns)
    one, two = (BoostedBeta(n_rounds=m).fit(mixed[seen], r[seen]).total_r2(mixed[~seen], r[~seen]) for m in (0, 200))
    assert two - one < 0.002


def test_a_leaf_has_the_value_of_the_formula():
    Z, r, *_ = world(corner, dates=40)
    model = BoostedBeta(n_rounds=1, learning_rate=1.0, validation_share=0, l2=0.3).fit(Z, r)
    rows = Rows.of(Z, r)
    beta = Z.to_numpy() @ model.ipca_.gamma_.to_numpy()
    f = factors_given(beta, rows)[rows.t]
    e, leaf = rows.r - beta[:, 0] * f[:, 0], model.boosters_[0].predict(rows.z, pred_leaf=True).ravel()
    told = model.boosters_[0].predict(rows.z)
    for k in np.unique(leaf):
        here = leaf == k
        assert told[here] == pytest.approx(np.sum(f[here, 0] * e[here]) / (np.sum(f[here, 0] ** 2) + 0.3), rel=1e-5)


def test_the_convention_of_loadings_and_factors():
    Z, r, *_ = world(lambda Z: 1 + 3 * (Z["a"] > 0))
    model = BoostedBeta(2, n_rounds=30, validation_share=0).fit(Z, r)
    beta, f = model.loadings(Z).to_numpy(), model.factors_.to_numpy()
    moments = f.T @ f
    assert np.allclose(beta.T @ beta / len(beta), np.eye(2), atol=1e-8)
    assert abs(moments[0, 1]) < 1e-10 * moments[0, 0] and moments[0, 0] >= moments[1, 1] and (f.mean(axis=0) >= 0).all()
    assert (np.diff(model.path_) > -1e-9).all()  # squares never rise in the sample


def test_later_returns_do_not_reach_the_trees():
    Z, r, *_ = world(corner)
    late = Z.index.get_level_values(0) >= Z.index.levels[0][120]
    one, two = (
        BoostedBeta(n_rounds=5, patience=99).fit(Z, r),
        BoostedBeta(n_rounds=5, patience=99).fit(Z, r.where(~late, -r)),
    )
    assert one.boosters_[0].model_to_string() == two.boosters_[0].model_to_string()


def test_what_boosted_betas_cannot_take_is_said():
    Z, r, *_ = world(corner, dates=20)
    for change, message in (
        (lambda: BoostedBeta().fit(Z * np.nan, r), "finite"),
        (lambda: BoostedBeta(n_rounds=0).fit(Z, r).loadings(Z * np.nan), "not finite"),
        (lambda: BoostedBeta().fit(Z.to_numpy(), r), "pass dates="),
    ):
        with pytest.raises(DataError, match=message):
            change()
    with pytest.raises(NotFittedError):
        BoostedBeta().predict(Z)
    assert clone(BoostedBeta(2, patience=3)).get_params()["patience"] == 3
    model = BoostedBeta(n_rounds=2).fit(Z, r, sample_weight=np.ones(len(r)))
    assert model.score(Z, r) == pytest.approx(1 - np.sum((r - model.predict(Z)) ** 2) / np.sum(r**2))
    assert model.predict(Z.to_numpy()).shape == (len(r),)


# What they found


@pytest.fixture(scope="module")
def found():
    Z, r, *_ = world(lambda Z: 0.6 + 0.3 * Z["c"] + ((Z["a"] < -0.1) & (Z["b"] > 0.1)), dates=160, names=120)
    return Z, r, BoostedBeta().fit(Z, r)


def test_importance_and_pairs_name_what_was_planted(found):
    Z, r, model = found
    lost = importance(model, Z, r)
    assert set(lost.index[:3]) == {"constant", "a", "b"} and lost["d"] < lost["a"] / 5
    pairs = branch_pairs(model)
    assert set(pairs.loc[0, ["parent", "child"]]) == {"a", "b"} and (pairs["parent"] != pairs["child"]).all()
    assert friedman_h(model, Z, ("a", "b"), rows=60) > 3 * friedman_h(model, Z, ("a", "d"), rows=60)
    with pytest.raises(DataError, match="dates of its fit"):
        importance(
            model,
            Z.rename(index=lambda d: d + pd.DateOffset(years=50), level=0),
            r.rename(index=lambda d: d + pd.DateOffset(years=50), level=0),
        )
    assert branch_pairs(BoostedBeta(n_rounds=0).fit(Z, r)).empty


def test_effects_that_add_up_have_no_h():
    Z, r, *_ = world(lambda Z: 1 + Z["a"] + Z["b"])
    model = BoostedBeta(n_rounds=0).fit(Z, r)
    assert friedman_h(model, Z, ("a", "b"), rows=40) < 1e-8


def test_products_are_centred_and_keep_what_there_was():
    Z, *_ = world(corner, dates=6)
    wider = product_instruments(Z, [("a", "b")])
    assert wider[Z.columns].equals(Z) and wider["a*b"].groupby(level=0).mean().abs().max() < 1e-15
    assert np.corrcoef(wider["a*b"], Z["a"] * Z["b"])[0, 1] > 0.9
    with pytest.raises(DataError, match="no characteristic 'x'"):
        product_instruments(Z, [("a", "x")])


def test_a_forest_recovers_the_exposure_to_a_known_factor():
    Z, r, beta, _ = world(corner)
    f = pd.Series(np.random.default_rng(0).normal(0.01, 0.05, 160), Z.index.levels[0])
    r = beta * f.loc[Z.index.get_level_values(0)].to_numpy() + np.random.default_rng(1).normal(0, 0.05, len(Z))
    told = forest_exposure(Z, r, f, trees=30).predict(Z.to_numpy())
    assert np.corrcoef(told, beta)[0, 1] > 0.95
    with pytest.raises(DataError, match="no value on some date"):
        forest_exposure(Z, r, f.iloc[1:])


# Leaves as instruments


def test_no_trees_is_ipca_and_so_is_an_endless_penalty():
    Z, r, _, seen = world(corner)
    late = IPCA(1).fit(Z[~seen], r[~seen])
    none, endless = TreeInstrumentIPCA(1, n_trees=0).fit(Z, r), TreeInstrumentIPCA(1, ridge=1e9).fit(Z, r)
    assert none.gamma_.equals(late.gamma_)
    told = endless.loadings(Z).to_numpy() @ endless.factors_.to_numpy().T
    assert np.abs(told - late.loadings(Z).to_numpy() @ late.factors_.to_numpy().T).max() < 1e-4


def test_leaves_are_columns_of_full_rank_and_do_not_depend_on_other_rows():
    Z, r, _, seen = world(corner)
    model = TreeInstrumentIPCA(1).fit(Z, r)
    wide = model._wide(Z)
    assert np.linalg.matrix_rank(wide[~seen].to_numpy()) == wide.shape[1] == len(model.columns_)
    assert model._wide(Z.iloc[5:9]).equals(wide.iloc[5:9])
    other = TreeInstrumentIPCA(1).fit(Z, r.where(seen, -r))
    assert other.booster_.model_to_string() == model.booster_.model_to_string()  # later returns don't reach the trees
    assert leaf_columns(None, np.zeros((3, 1))).shape == (3, 0) and independent(np.eye(2), 1) == [0, 1]


def test_leaves_explain_a_step_better_on_later_dates():
    rng, index = np.random.default_rng(4), index_of(300, 120)
    Z = pd.DataFrame(rng.uniform(-0.5, 0.5, (len(index), 4)), index, list("abcd")).assign(constant=1.0)
    f = rng.normal(0.02, 0.05, 300)[index.codes[0]]
    r = (0.5 + 1.0 * ((Z["a"] > 0.1) & (Z["b"] < 0.1))) * f + rng.normal(0, 0.1, len(index))
    seen, score = np.asarray(index.codes[0]) < 200, {}
    for name, model in {"line": TreeInstrumentIPCA(1, n_trees=0), "leaves": TreeInstrumentIPCA(1)}.items():
        model.fit(Z[seen], r[seen])
        f_later = model.realised_factors(Z[~seen], r[~seen]).loc[Z[~seen].index.get_level_values(0)]
        score[name] = 1 - np.sum(
            (r[~seen] - (model.loadings(Z[~seen]) * f_later.to_numpy()).sum(axis=1)) ** 2
        ) / np.sum(r[~seen] ** 2)
    assert score["leaves"] > score["line"] + 0.005
    assert model.predict(Z[~seen].to_numpy()) == pytest.approx(model.predict(Z[~seen]).to_numpy())
    assert model.score(Z, r) == pytest.approx(1 - np.sum((r - model.predict(Z)) ** 2) / np.sum(r**2))


def test_what_tree_instruments_cannot_take_is_said():
    Z, r, *_ = world(corner, dates=20)
    with pytest.raises(DataError, match="tree_share"):
        TreeInstrumentIPCA(1, tree_share=1.0).fit(Z, r)
    with pytest.raises(NotFittedError):
        TreeInstrumentIPCA().predict(Z)
    TreeInstrumentIPCA(1, n_trees=3).fit(Z, r, sample_weight=np.ones(len(r)))


def test_one_door_to_all_of_them():
    from mlt_lib.models import trees

    assert sorted(trees.__all__) == ["BoostedBeta", "GBRTSortFactor", "PTree", "TreeInstrumentIPCA"]
    assert trees.GBRTSortFactor is GBRTSortFactor
