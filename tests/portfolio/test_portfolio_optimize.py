"""The optimiser against another solver, its own bounds, and its own memory."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError, SettingsError
from mlt_lib.portfolio import optimize
from mlt_lib.portfolio.optimize import Rules, mean_variance
from mlt_lib.portfolio.terms import forced_trading

TOLERANCE = 2e-5  # rounding and dust


def problem(seed, n, rules):
    "A random forecast, covariance and book."
    draw = np.random.default_rng(seed)
    names = pd.Index([f"S{i:02d}" for i in range(n)])
    loadings = draw.normal(size=(n, n + 3))
    covariance = loadings @ loadings.T / (n + 3) * 0.04 + np.eye(n) * 0.01
    book = draw.dirichlet(np.ones(n) * draw.uniform(0.2, 3)) * draw.choice([0.0, 0.5, rules.invested_share, 1.0])
    return (
        pd.Series(draw.normal(0, 0.03, n), names),
        pd.DataFrame((covariance + covariance.T) / 2, names, names),
        pd.Series(book, names),
    )


def utility(w, mu, covariance, book, rules):
    return mu @ w - rules.risk_aversion / 2 * w @ covariance @ w - rules.cost_share * np.abs(w - book).sum()


@st.composite
def cases(draw):
    n = draw(st.integers(4, 12))
    rules = Rules(
        risk_aversion=draw(st.sampled_from([1.0, 5.0, 20.0])),
        max_weight_share=draw(st.sampled_from([0.3, 0.5, 1.0])),
        max_turnover_share=draw(st.sampled_from([0.0, 0.05, 0.3, 1.0])),
        cost_share=draw(st.sampled_from([0.0, 0.0005, 0.01])),
    )
    return draw(st.integers(0, 10_000)), n, rules


@settings(max_examples=25, deadline=None)
@given(cases())
def test_every_bound_is_kept(case):
    seed, n, rules = case
    mu, covariance, book = problem(seed, n, rules)
    answer = mean_variance(mu, covariance, book, rules)
    w = answer.weights.to_numpy()
    assert answer.status == "optimal"
    assert (w >= 0).all() and (w <= rules.max_weight_share).all()
    assert w.sum() == pytest.approx(rules.invested_share, abs=n * TOLERANCE)
    forced = forced_trading(book.to_numpy(), rules.invested_share, rules.max_weight_share)
    assert np.abs(w - book).sum() <= 2 * rules.max_turnover_share + forced + n * TOLERANCE
    assert np.array_equal(w, np.round(w, 6)) and not ((w > 0) & (w < 1e-5)).any()


@settings(max_examples=12, deadline=None)
@given(cases())
def test_another_solver_agrees(case):
    "SLSQP on the problem with purchases and sales as variables of their own, written without cvxpy."
    from scipy.optimize import minimize

    seed, n, rules = case
    mu, covariance, book = (part.to_numpy() for part in problem(seed, n, rules))
    room = 2 * rules.max_turnover_share + forced_trading(book, rules.invested_share, rules.max_weight_share)
    buy, sell = slice(0, n), slice(n, 2 * n)

    def loss(x):
        w = book + x[buy] - x[sell]
        return -(mu @ w - rules.risk_aversion / 2 * w @ covariance @ w - rules.cost_share * x.sum())

    def slope(x):
        marginal = mu - rules.risk_aversion * covariance @ (book + x[buy] - x[sell])
        return -np.concatenate([marginal - rules.cost_share, -marginal - rules.cost_share])

    moves = np.hstack([np.eye(n), -np.eye(n)])
    constraints = [
        {"type": "eq", "fun": lambda x: (moves @ x + book).sum() - rules.invested_share, "jac": lambda x: moves.sum(0)},
        {"type": "ineq", "fun": lambda x: moves @ x + book, "jac": lambda x: moves},
        {"type": "ineq", "fun": lambda x: rules.max_weight_share - moves @ x - book, "jac": lambda x: -moves},
        {"type": "ineq", "fun": lambda x: room - x.sum(), "jac": lambda x: -np.ones(2 * n)},
    ]
    even = np.full(n, rules.invested_share / n) - book
    begin = np.concatenate([np.maximum(even, 0), np.maximum(-even, 0)])
    other = minimize(
        loss, begin, jac=slope, bounds=[(0, None)] * (2 * n), constraints=constraints, method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-13},
    )  # fmt: skip
    assume(other.success)
    ours = mean_variance(*problem(seed, n, rules), rules)
    best = utility(book + moves @ other.x, mu, covariance, book, rules)
    assert ours.objective == pytest.approx(best, abs=2e-6)
    assert utility(ours.weights.to_numpy(), mu, covariance, book, rules) == pytest.approx(best, abs=2e-5)


@pytest.mark.parametrize("solver", ["OSQP", "SCS"])
def test_other_solvers_find_the_same_weights(solver):
    import cvxpy as cp

    rules = Rules()
    for seed in range(5):
        mu, covariance, book = problem(seed, 20, rules)
        ours = mean_variance(mu, covariance, book, rules).weights
        w, d = cp.Variable(20), book.to_numpy()
        utility_ = mu.to_numpy() @ w - 2.5 * cp.quad_form(w, covariance.to_numpy()) - 0.0005 * cp.sum(cp.abs(w - d))
        room = 0.2 + abs(0.98 - d.sum()) + 2 * np.maximum(d - 0.15, 0).sum()
        bounds = [w >= 0, w <= 0.15, cp.sum(w) == 0.98, cp.sum(cp.abs(w - d)) <= room]
        tight = {"eps_abs": 1e-9, "eps_rel": 1e-9} | (
            {"max_iter": 200_000} if solver == "OSQP" else {"max_iters": 200_000}
        )
        cp.Problem(cp.Maximize(utility_), bounds).solve(solver=solver, **tight)
        np.testing.assert_allclose(ours, w.value, atol=5e-5)


def test_the_answer_forgets_what_was_solved_before():
    "To the bit: alone in a fresh program, and after a hundred others."
    rules = Rules()
    cases = [problem(seed, 20, rules) for seed in range(12)]
    alone = []
    for case in cases:
        optimize._program.cache_clear()
        alone.append(mean_variance(*case, rules))
    again = [mean_variance(*cases[k], rules) for k in [3, 11, 0, 7, 7, 1, 2, 10, 9, 8, 6, 5, 4]]
    for k, answer in zip([3, 11, 0, 7, 7, 1, 2, 10, 9, 8, 6, 5, 4], again, strict=True):
        assert answer.weights.equals(alone[k].weights)
        assert answer.objective == alone[k].objective


def test_threads_do_not_fill_in_one_form():
    from concurrent.futures import ThreadPoolExecutor

    rules = Rules()
    cases = [problem(seed, 8, rules) for seed in range(24)]
    alone = [mean_variance(*case, rules).weights for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: mean_variance(*case, rules).weights, cases))
    assert all(a.equals(b) for a, b in zip(alone, together, strict=True))


def test_a_held_name_without_forecast_is_left_out_and_its_sale_is_not_rationed():
    rules = Rules(max_weight_share=0.5, max_turnover_share=0.0)
    mu, covariance, _ = problem(1, 4, rules)
    answer = mean_variance(mu, covariance, pd.Series({"GONE": 0.5, "S00": 0.2, "S01": 0.28}), rules)
    assert "GONE" not in answer.weights.index
    assert answer.weights.sum() == pytest.approx(0.98, abs=1e-4)


def test_caps_that_cannot_hold_the_book_are_named_before_solving():
    mu, covariance, book = problem(1, 6, Rules())
    with pytest.raises(DataError, match=r"6 names of at most 15.00%.*90.00%.*98.00%"):
        mean_variance(mu, covariance, book, Rules())
    exact = Rules(max_weight_share=0.98 / 6)
    assert mean_variance(mu, covariance, book, exact).weights.to_numpy() == pytest.approx(
        np.full(6, 0.98 / 6), abs=2e-6
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda mu, c, b: (mu.where(mu.index != "S01"), c, b), "S01"),
        (lambda mu, c, b: (mu, c, b.where(b.index != "S02")), "S02"),
        (lambda mu, c, b: (mu, c.drop(index="S03"), b), "S03"),
        (lambda mu, c, b: (mu, c * np.nan, b), "finite"),
        (lambda mu, c, b: (mu, c + pd.DataFrame(np.triu(np.ones((8, 8))), c.index, c.columns), b), "symmetric"),
        (lambda mu, c, b: (mu, c - 10 * np.eye(8), b), "positive definite"),
    ],
)
def test_unusable_input_is_named(change, message):
    with pytest.raises(DataError, match=message):
        mean_variance(*change(*problem(2, 8, Rules())), Rules())


def test_names_may_come_in_any_order():
    mu, covariance, book = problem(4, 10, Rules())
    straight = mean_variance(mu, covariance, book, Rules()).weights
    shuffled = mean_variance(mu, covariance.iloc[::-1, ::-1], book[::-1], Rules()).weights
    assert straight.equals(shuffled)


@pytest.mark.parametrize(
    "field, value",
    [
        ("risk_aversion", 0),
        ("max_weight_share", 0),
        ("max_weight_share", 15),
        ("max_turnover_share", -0.1),
        ("cost_share", -1),
        ("invested_share", 1.2),
        ("risk_aversion", float("nan")),
        ("risk_aversion", float("inf")),
    ],
)
def test_impossible_rules_are_refused_by_name(field, value):
    with pytest.raises(SettingsError, match=field):
        Rules(**{field: value})


def test_a_solver_that_fails_is_an_error_with_its_words(monkeypatch):
    import cvxpy as cp

    case = problem(3, 8, Rules())
    program = optimize._program(8, Rules())

    def broken(**_):
        raise cp.SolverError("out of ideas")

    monkeypatch.setattr(program.problem, "solve", broken)
    with pytest.raises(DataError, match="out of ideas"):
        mean_variance(*case, Rules())
    monkeypatch.setattr(program.problem, "solve", lambda **_: None)
    monkeypatch.setattr(type(program.problem), "status", property(lambda _: "infeasible"))
    with pytest.raises(DataError, match="infeasible"):
        mean_variance(*case, Rules())
