"The model's score: what it is by another road, on how much history, and what it says when it can't be made."

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mlt_lib.data.sample import closes
from mlt_lib.errors import DataError
from mlt_lib.market.calendar import decision_sessions, sessions
from mlt_lib.market.panel import to_long
from mlt_lib.models.ipca import IPCA
from mlt_lib.models.preparation import prepare
from mlt_lib.strategies import model_driven
from mlt_lib.strategies.ensemble import Recipe, decide, history_days, model_book, weights
from mlt_lib.strategies.model_driven import HISTORY_DAYS, instruments, market_model, monthly_panel, score, worth

PRICES = closes()
CASH = pd.Series(dtype=float)
DRIVEN = Recipe(sleeves=("ipca",))


def world(names=24, rows=HISTORY_DAYS, seed=4):
    "Daily prices of names with known betas to one factor that is paid."
    days, rng = sessions("2005-01-03", "2020-12-31")[:rows], np.random.default_rng(seed)
    betas = np.linspace(0.4, 1.6, names)
    moves = betas * rng.normal(0.001, 0.01, (rows, 1)) + rng.normal(0, 0.01, (rows, names))
    return pd.DataFrame(100 * np.cumprod(1 + moves, axis=0), days, [f"N{k:02d}" for k in range(names)]), betas


def test_the_market_model_is_a_regression():
    prices = PRICES.iloc[-300:, :6]
    beta, residual = market_model(prices, window=60)
    returns = prices.pct_change(fill_method=None).iloc[-60:]
    market = returns.mean(axis=1)
    for name in prices:
        slope, level = np.polyfit(market, returns[name], 1)
        left = returns[name] - level - slope * market
        assert beta[name].iloc[-1] == pytest.approx(slope, rel=1e-9)
        assert residual[name].iloc[-1] == pytest.approx(np.sqrt((left**2).sum() / 58 * 252), rel=1e-9)
    assert beta.iloc[:60].isna().all().all() and beta.iloc[60:].notna().all().all()


def test_a_market_that_stands_still_gives_no_beta():
    flat = pd.DataFrame(10.0, sessions("2020-01-02", "2020-12-31"), ["A", "B"])
    beta, residual = market_model(flat, window=20)
    assert beta.isna().all().all() and residual.isna().all().all()


def test_the_history_is_what_the_calendar_can_ask_for():
    known = sessions("1985-01-01", "2099-12-31")
    ends = known.get_indexer(decision_sessions(known, "monthly"))
    asked = [ends[k + 1] - ends[k - model_driven.MONTHS] + 252 for k in range(model_driven.MONTHS, len(ends) - 1)]
    assert max(asked) == HISTORY_DAYS


def test_the_score_is_the_models_prediction_by_another_road():
    prices = PRICES.iloc[-HISTORY_DAYS - 5 :]
    windows = {
        "m12": prices.shift(21) / prices.shift(252) - 1,
        "m6": prices.shift(21) / prices.shift(126) - 1,
        "m1": prices / prices.shift(21) - 1,
        "vol": prices.pct_change(fill_method=None).rolling(252).std(),
        "beta": market_model(prices, 252)[0],
        "residual": market_model(prices, 21)[1],
        "max": prices.pct_change(fill_method=None).rolling(21).max(),
        "high": prices / prices.rolling(252).max(),
    }
    raw = pd.DataFrame({name: to_long(wide, name) for name, wide in windows.items()}).dropna()
    Z = prepare(raw).Z
    ends = decision_sessions(sessions("2012-11-30", "2022-11-30"), "monthly")
    assert len(ends) == 121
    at = prices.loc[ends]
    r = to_long((at.shift(-1) / at - 1).iloc[:-1], "return")
    model = IPCA(2).fit(Z.loc[r.index], r)
    expected = model.predict(Z.loc[[prices.index[-1]]]).droplevel(0)
    np.testing.assert_allclose(score(prices).iloc[-1], expected, rtol=1e-4)


def test_a_paid_factor_is_found():
    prices, betas = world()
    found = score(prices).iloc[-1]
    assert found.notna().all() and np.corrcoef(found.rank(), betas)[0, 1] > 0.8
    assert 0 < found.mean() < 0.06  # the planted factor earns about 2 % a month


def test_a_decision_from_the_tail_repeats_the_walk_to_the_bit():
    prices = PRICES.iloc[-HISTORY_DAYS - 60 :]
    recipe = Recipe(sleeves=("momentum", "low_volatility", "ipca"))
    walk = weights(prices, recipe)
    assert len(walk) == 13
    for session in walk.index[-5::2]:
        for rows in (HISTORY_DAYS, HISTORY_DAYS + 37):
            recent = prices.loc[:session].iloc[-rows:]
            if len(recent) >= HISTORY_DAYS:
                assert (decide(recent, model_book(walk, recent), recipe).weights == walk.loc[session]).all(), session


def test_layout_and_order_change_no_bit():
    prices = PRICES.iloc[-HISTORY_DAYS:]
    straight = decide(prices, CASH, DRIVEN)
    layouts = {
        "fortran": pd.DataFrame(np.asfortranarray(prices.to_numpy()), prices.index, prices.columns),
        "column by column": pd.DataFrame({name: prices[name].to_list() for name in prices}, prices.index),
        "shuffled": prices[list(np.random.default_rng(3).permutation(prices.columns))],
    }
    for layout, same in layouts.items():
        again = decide(same, CASH, DRIVEN)
        assert again.weights[prices.columns].equals(straight.weights), layout
        assert again.scores.loc[prices.columns].equals(straight.scores), layout


def test_a_month_end_without_prices_costs_two_months_and_moves_nothing_else():
    end = decision_sessions(PRICES.loc["2018"].index, "monthly")[5]
    every = PRICES.iloc[-HISTORY_DAYS - 5 :]
    prices = every.drop(index=end)
    gone = monthly_panel(every, instruments(every)).dates.difference(monthly_panel(prices, instruments(prices)).dates)
    assert list(gone.strftime("%Y-%m-%d")) == ["2018-05-31", "2018-06-29"]
    whole = score(prices).iloc[-1]
    assert whole.notna().all() and score(prices.iloc[-HISTORY_DAYS:]).iloc[-1].equals(whole)


def test_a_month_end_today_that_is_missing_keeps_the_score_alive():
    prices = PRICES.loc[:"2022-11-30"].iloc[-HISTORY_DAYS - 5 :]
    later = pd.concat([prices.iloc[:-1], PRICES.loc["2022-12-01":"2022-12-02"]])
    assert score(later).iloc[-1].notna().all()


def test_a_young_name_and_one_with_a_hole_have_no_opinion():
    prices = PRICES.iloc[-HISTORY_DAYS:].copy()
    prices.iloc[:-200, 2] = np.nan
    prices.iloc[-40, 5] = np.nan
    found = score(prices).iloc[-1]
    assert list(found.index[found.isna()]) == [prices.columns[2], prices.columns[5]]


def test_too_few_names_or_months_are_no_opinion_and_the_decision_says_so():
    few, _ = world(names=9)
    with pytest.raises(DataError, match="ipca: 9 names, and the model needs 10; .*sleeves"):
        score(few)
    one_young = PRICES.iloc[-HISTORY_DAYS:, :10].copy()
    one_young.iloc[:-300, 0] = np.nan  # nine names on most months
    assert score(one_young).isna().all().all()
    assert score(one_young * np.nan).isna().all().all()
    prices = PRICES.iloc[-HISTORY_DAYS:].copy()
    prices.iloc[: -1500 + 252] = np.nan  # 58 months or so are left
    assert score(prices).isna().all().all()
    with pytest.raises(DataError, match="0 names have 252 complete returns and a score of ipca on 2022-12-28"):
        decide(prices, CASH, DRIVEN)


def test_too_short_a_history_names_the_number():
    assert history_days(DRIVEN) == HISTORY_DAYS
    with pytest.raises(
        DataError, match=f"{HISTORY_DAYS - 1} rows of prices up to 2022-12-28, {HISTORY_DAYS} are needed"
    ):
        decide(PRICES.iloc[-HISTORY_DAYS + 1 :], CASH, DRIVEN)
    assert score(PRICES.iloc[: HISTORY_DAYS - 1]).isna().all().all()
    assert score(PRICES.iloc[:0]).empty


def test_months_that_cannot_be_estimated_are_one_clear_line():
    prices, _ = world(names=12)
    ranks = instruments(prices)
    panel = monthly_panel(prices, ranks | {"twin": ranks["beta"]})
    end = model_driven.month_ends(prices)[-1]
    with pytest.raises(DataError, match="^ipca: the months .*twin.*sleeves") as raised:
        worth(panel, end)
    assert "\n" not in str(raised.value)
    assert list(worth(monthly_panel(prices, ranks), end).index) == [*ranks, "constant"]


def test_a_desk_without_the_model_loads_none():
    said = "import mlt_lib.strategies.ensemble, sys; print(sorted({'sklearn', 'scipy.optimize'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert "sklearn" not in told.stdout
