"""Row t of a strategy uses rows up to t: proved on every strategy, and a peeking one is caught."""

import numpy as np
import pandas as pd
import pytest

from mlt_lib.data.sample import closes
from mlt_lib.strategies import ensemble, low_volatility, model_driven, momentum

PRICES = closes().iloc[-285:, :8]
LONG = closes().iloc[-model_driven.HISTORY_DAYS - 30 :, :12]
CUTS = (255, 268, 283)  # sessions known, a decision of one day more or less among them
LOOSE = ensemble.Recipe(every="daily", rules=ensemble.Rules(max_weight_share=0.3))
DRIVEN = ensemble.Recipe(("momentum", "ipca"), "daily", rules=ensemble.Rules(max_weight_share=0.3))


def daily_ensemble(prices):
    return ensemble.weights(prices, LOOSE)


def driven_ensemble(prices):
    return ensemble.weights(prices, DRIVEN)


STRATEGIES = {
    "momentum": momentum.weights,
    "low_volatility": low_volatility.weights,
    "ensemble": daily_ensemble,
    **{f"score of {name}": score for name, score in ensemble.SLEEVES.items() if name != "ipca"},
}
DRIVEN_BY_A_MODEL = {
    "model_driven": model_driven.weights,
    "score of ipca": model_driven.score,
    "ensemble of momentum and ipca": driven_ensemble,
}
ROOMS = {"momentum": momentum, "low_volatility": low_volatility, "ipca": model_driven}


def panel_for(name):
    "As few prices as show the sleeve at work."
    return LONG if name == "ipca" else PRICES


def changed_rows(strategy, prices, cuts=CUTS):
    "The cuts at which the past looks different once the future is gone, or is another one."
    whole, noise = strategy(prices), np.random.default_rng(7)
    changed = []
    for cut in cuts:
        past = whole.loc[: prices.index[cut - 1]]
        other = prices.copy()
        other.iloc[cut:] *= np.exp(noise.normal(0, 0.2, other.iloc[cut:].shape))
        alone, dreamt = strategy(prices.iloc[:cut]), strategy(other).loc[past.index]
        if not (alone.equals(past) and dreamt.equals(past)):
            changed.append(cut)
    return changed


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_past_stays_as_it_was(name):
    assert changed_rows(STRATEGIES[name], PRICES) == []


@pytest.mark.parametrize("name", DRIVEN_BY_A_MODEL)
def test_the_past_of_an_estimated_strategy_stays_as_it_was(name):
    cuts = [len(LONG) - 30 + k for k in (1, 6, 22)]  # 2022-12-28 is the last row: a month end lies between the cuts
    assert changed_rows(DRIVEN_BY_A_MODEL[name], LONG, cuts) == []


def peeking(prices):
    "Holds what will have risen by tomorrow."
    return momentum.equal_weights(prices.shift(-1) / prices - 1)


def measuring_the_whole(prices):
    "Looks back only, but divides by a volatility that knows the end of the sample."
    return momentum.score(prices) / prices.pct_change(fill_method=None).std()


@pytest.mark.parametrize("strategy", [peeking, measuring_the_whole])
def test_a_strategy_that_peeks_is_caught(strategy):
    assert changed_rows(strategy, PRICES) == list(CUTS)


@pytest.mark.parametrize("name", ROOMS)
def test_nothing_is_held_before_history_suffices(name):
    strategy = ROOMS[name]
    held = strategy.weights(panel_for(name)).sum(axis=1)
    assert (held.iloc[: strategy.HISTORY_DAYS - 1] == 0).all()
    np.testing.assert_allclose(held.iloc[strategy.HISTORY_DAYS - 1 :], 1.0)


@pytest.mark.parametrize("name", ensemble.SLEEVES)
def test_the_stated_history_is_enough_to_the_bit_and_not_more_than_needed(name):
    strategy, prices = ROOMS[name], panel_for(name)
    whole, need = strategy.score(prices).iloc[-1], strategy.HISTORY_DAYS
    assert whole.notna().all()
    assert strategy.score(prices.iloc[-need:]).iloc[-1].equals(whole)
    assert strategy.score(prices.iloc[-need + 1 :]).iloc[-1].isna().all()


def test_a_name_without_history_is_not_held():
    prices = PRICES.copy()
    prices.iloc[:-100, 2] = np.nan
    for strategy in (momentum, low_volatility):
        assert (strategy.weights(prices).iloc[:, 2] == 0).all()
        assert strategy.weights(prices).iloc[-1].sum() == pytest.approx(1)


def test_the_winners_win_and_the_calm_are_calm():
    days = pd.bdate_range("2020-01-01", periods=260)
    wobble = np.where(np.arange(260) % 2, 1.0, -1.0)
    prices = pd.DataFrame(
        {
            "UP": 100 * 1.002 ** np.arange(260),
            "DOWN": 100 * 0.998 ** np.arange(260),
            "WILD": 100 * (1 + 0.05 * wobble),
        },
        days,
    )
    assert momentum.weights(prices).iloc[-1].to_dict() == {"UP": 1.0, "DOWN": 0.0, "WILD": 0.0}
    assert low_volatility.weights(prices).iloc[-1]["WILD"] == 0.0
    expected = prices["UP"].iloc[-22] / prices["UP"].iloc[-253] - 1
    assert momentum.score(prices)["UP"].iloc[-1] == expected
