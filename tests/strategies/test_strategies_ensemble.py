"""One decision, however it is reached: the walk, the tail with the stored book, another order of names."""

import numpy as np
import pandas as pd
import pytest

from mlt_lib.data.sample import closes
from mlt_lib.errors import DataError, SettingsError
from mlt_lib.market.calendar import decision_sessions
from mlt_lib.models.combine import forecast
from mlt_lib.portfolio.drift import drift
from mlt_lib.portfolio.optimize import Rules, mean_variance
from mlt_lib.risk.covariance import ledoit_wolf
from mlt_lib.strategies.ensemble import SLEEVES, Recipe, decide, history_days, model_book, weights

PRICES = closes().iloc[-420:]
CASH = pd.Series(dtype=float)


@pytest.fixture(scope="module")
def walk():
    return weights(PRICES)


def test_the_walk_decides_on_decision_sessions_with_history(walk):
    expected = decision_sessions(PRICES.index[history_days() - 1 :], "weekly")
    assert walk.index.equals(expected) and walk.columns.equals(PRICES.columns)
    assert (walk.to_numpy() >= 0).all() and (walk.to_numpy() <= 0.15).all()
    np.testing.assert_allclose(walk.sum(axis=1), 0.98, atol=5e-4)


@pytest.mark.parametrize("rows", [253, 254, 300, 420])
def test_decide_on_a_tail_with_the_stored_book_repeats_the_walk_to_the_bit(walk, rows):
    differences = 0
    for session in walk.index[-12:]:
        recent = PRICES.loc[:session].iloc[-rows:]
        decision = decide(recent, model_book(walk, recent))
        assert decision.session == session and decision.status == "optimal"
        differences += int((decision.weights != walk.loc[session]).sum())
    assert differences == 0


def test_a_walk_that_goes_on_from_stored_targets_is_the_same_walk(walk):
    stored = walk.iloc[:-6].copy()
    for session in walk.index[-6:]:
        seen = PRICES.loc[:session]
        stored.loc[session] = decide(seen, model_book(stored, seen)).weights
    assert stored.equals(walk)


def test_a_copy_another_layout_and_another_order_change_no_bit(walk):
    session = walk.index[-1]
    seen = PRICES.loc[:session]
    straight = decide(seen, model_book(walk, seen))
    layouts = {
        "fortran": pd.DataFrame(np.asfortranarray(seen.to_numpy()), seen.index, seen.columns),
        "rows first": pd.DataFrame(np.ascontiguousarray(seen.to_numpy()), seen.index, seen.columns),
        "column by column": pd.DataFrame({name: seen[name].to_list() for name in seen}, seen.index),
        "shuffled": seen[list(np.random.default_rng(3).permutation(seen.columns))],
    }
    for layout, prices in layouts.items():
        targets = walk[list(prices.columns)] if layout == "shuffled" else walk
        again = decide(prices, model_book(targets, prices))
        assert again.weights[seen.columns].equals(straight.weights), layout
        assert again.book[seen.columns].equals(straight.book), layout
        assert again.forecast[seen.columns].equals(straight.forecast), layout


def test_the_decision_is_its_formula_written_out():
    recipe = Recipe()
    decision = decide(PRICES, CASH, recipe)
    scores = {}
    for name in recipe.sleeves:
        ranks = SLEEVES[name](PRICES).iloc[-1].rank()
        scores[name] = (ranks - 1) / (len(ranks) - 1) - 0.5
    combined = sum(scores.values()) / 2
    np.testing.assert_allclose(decision.scores["combined"], combined, atol=1e-12)
    returns = PRICES.pct_change(fill_method=None).iloc[-252:]
    z = (combined - combined.mean()) / combined.std(ddof=0)
    alpha = 0.05 * returns.std() * 252**0.5 * z
    np.testing.assert_allclose(decision.forecast, alpha, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(
        decision.forecast, forecast(combined, returns.std() * 252**0.5, 0.05), rtol=1e-10, atol=1e-14
    )
    optimum = mean_variance(alpha, ledoit_wolf(returns) * 252, CASH, recipe.rules)
    np.testing.assert_allclose(decision.weights, optimum.weights, atol=2e-6)


def test_the_turnover_limit_holds_along_the_walk(walk):
    from mlt_lib.portfolio.drift import turnover

    for before, after in zip(walk.index[:-1], walk.index[1:], strict=True):
        book = model_book(walk.loc[:before], PRICES.loc[:after])
        above = (book - 0.15).clip(lower=0).sum()
        assert turnover(book, walk.loc[after]) <= 0.10 + above + 1e-3


def test_the_model_book_is_traded_at_the_next_close():
    targets = pd.DataFrame({"A": [0.6], "B": [0.2]}, [pd.Timestamp("2020-01-02")])
    days = pd.to_datetime(["2020-01-02", "2020-01-03", "2020-01-06"])
    prices = pd.DataFrame({"A": [10.0, 20.0, 40.0], "B": [5.0, 5.0, 5.0], "C": [1.0, 2.0, 3.0]}, days)
    assert model_book(targets, prices.iloc[:1]).to_dict() == {"A": 0.0, "B": 0.0, "C": 0.0}
    assert model_book(targets, prices.iloc[:2]).to_dict() == {"A": 0.6, "B": 0.2, "C": 0.0}
    after = drift(pd.Series({"A": 0.6, "B": 0.2, "C": 0.0}), pd.Series({"A": 2.0, "B": 1.0, "C": 1.5}))
    assert model_book(targets, prices).equals(after)
    later = pd.concat([targets, pd.DataFrame({"A": [0.1], "B": [0.1]}, days[-1:])])
    assert model_book(later, prices).equals(after), "a decision of today is not in today's book"
    assert model_book(later.iloc[::-1], prices).equals(after), "stored rows may come in any order"


def test_the_model_book_values_a_gap_at_the_last_price():
    days = pd.bdate_range("2020-01-01", periods=4)
    targets = pd.DataFrame({"A": [0.5], "B": [0.5]}, days[:1])
    prices = pd.DataFrame({"A": [10.0, 10.0, 20.0, np.nan], "B": [5.0, 5.0, 5.0, 5.0], "C": np.nan}, days)
    assert model_book(targets, prices).to_dict() == pytest.approx({"A": 2 / 3, "B": 1 / 3, "C": 0.0})
    never = prices.assign(B=np.nan)
    with pytest.raises(DataError, match="B"):
        model_book(targets, never)


def test_the_model_book_needs_prices_from_the_decision_on():
    targets = pd.DataFrame({"AAPL": [0.5]}, [PRICES.index[0] - pd.Timedelta(days=7)])
    with pytest.raises(DataError, match="prices begin"):
        model_book(targets, PRICES)
    with pytest.raises(DataError, match="ZZZ"):
        model_book(pd.DataFrame({"ZZZ": [0.5]}, PRICES.index[:1]), PRICES)


def test_a_name_with_a_hole_is_left_out_and_sold():
    prices = PRICES.copy()
    prices.iloc[-40, prices.columns.get_loc("KO")] = np.nan
    decision = decide(prices, pd.Series({"KO": 0.1, "PG": 0.1}))
    assert decision.weights["KO"] == 0 and np.isnan(decision.forecast["KO"]) and decision.book["KO"] == 0.1
    assert decision.weights.sum() == pytest.approx(0.98, abs=5e-4)
    assert "KO" in decision._repr_html_() and repr(decision).startswith("Decision(2022-12-28")


def test_what_cannot_be_decided_is_said():
    with pytest.raises(DataError, match="253 are needed"):
        decide(PRICES.iloc[:252], CASH)
    with pytest.raises(DataError, match="253 are needed"):
        decide(PRICES.iloc[:0], CASH)
    with pytest.raises(DataError, match="ZZZ"):
        decide(PRICES, pd.Series({"ZZZ": 0.1}))
    with pytest.raises(DataError, match="no number for KO"):
        decide(PRICES, pd.Series({"KO": np.nan}))
    with pytest.raises(DataError, match="can't be read"):
        weights(PRICES, start="yesterday")
    with pytest.raises(DataError, match="5 names"):
        decide(PRICES.iloc[:, :5], CASH)
    holes = PRICES.copy()
    holes.iloc[-10, 1:] = np.nan
    with pytest.raises(DataError, match="at least two"):
        decide(holes, CASH)
    broken = PRICES.copy()
    broken.iloc[-3, 0] = -1.0
    with pytest.raises(DataError, match="AAPL"):
        decide(broken, CASH)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"sleeves": ("momentun",)}, "momentum, low_volatility, ipca"),
        ({"sleeves": ()}, "at least one"),
        ({"sleeves": ("momentum", "momentum")}, "each once"),
        ({"every": "hourly"}, "weekly"),
        ({"covariance_days": 1}, "covariance_days"),
        ({"ic": 5}, "information_coefficient"),
    ],
)
def test_a_recipe_that_cannot_be_cooked_is_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        Recipe(**wrong)


def test_a_recipe_takes_a_list_and_stays_hashable():
    assert Recipe(sleeves=["momentum"]) == Recipe(sleeves=("momentum",))
    assert hash(Recipe(sleeves=["momentum"])) == hash(Recipe(sleeves=("momentum",)))


def test_history_follows_the_recipe():
    assert history_days() == 253
    assert history_days(Recipe(covariance_days=400)) == 401
    assert history_days(Recipe(covariance_days=20, sleeves=("momentum",))) == 253
    assert history_days(Recipe(sleeves=("momentum", "ipca"))) == 2804


def test_every_rhythm_and_a_start_and_progress():
    seen = []
    recipe = Recipe(every="monthly", sleeves=("low_volatility",), rules=Rules(max_turnover_share=0.5))
    walked = weights(PRICES, recipe, start="2022-09-01", progress=lambda done, total: seen.append((done, total)))
    assert list(walked.index) == list(decision_sessions(PRICES.loc["2022-09-01":].index, "monthly"))
    assert seen == [(k + 1, len(walked)) for k in range(len(walked))]
    daily = weights(PRICES, Recipe(every="daily"), start=PRICES.index[-5])
    assert list(daily.index) == list(PRICES.index[-5:])
    session = daily.index[-1]
    assert decide(PRICES, model_book(daily, PRICES)).weights.equals(daily.loc[session].rename("weight"))


def test_a_walk_over_too_little_or_after_the_end_decides_nothing():
    assert weights(PRICES.iloc[:200]).empty
    assert weights(PRICES, start="2030-01-02").empty
    assert list(weights(PRICES.iloc[:200]).columns) == list(PRICES.columns)
