"The review: the sentence counts every order, the market is what it says, the record begins with its costs."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlt_lib.errors import DataError
from mlt_lib.jobs.review import OUTCOMES, counted, equal_weight, review, sentence
from mlt_lib.store.schema import INTENT_STATES


def seen(states=(), lights=("ok", "ok"), decision=True, due=True, before=()):
    "A review with orders in these states, or without a decision and with orders of one before."
    orders = tuple(SimpleNamespace(state=state, reason="why" if state == "DEAD" else None) for state in states)
    table = pd.DataFrame({"light": lights}, index=["gross exposure", "drawdown"][: len(lights)])
    earlier = tuple(SimpleNamespace(state=state, reason=None) for state in before)
    latest = SimpleNamespace(decided=SimpleNamespace(session="2022-12-21"), orders=earlier)
    made = object() if decision else None
    return SimpleNamespace(orders=orders, limits=table, decision=made, due=due, latest=latest)


def test_every_state_of_an_order_has_exactly_one_outcome():
    assert sorted(state for states in OUTCOMES.values() for state in states) == sorted(INTENT_STATES)
    assert sum(map(len, counted(seen(INTENT_STATES).orders).values())) == len(INTENT_STATES)


@pytest.mark.parametrize(
    "state", ["UNKNOWN", "SUBMITTING", "INTENT", "DEAD", "LAPSED", "REJECTED", "EXPIRED", "CANCELED"]
)
def test_an_order_that_did_not_go_through_is_never_called_clear(state):
    verdict, said, word = sentence(seen(["WORKING", state]))
    assert (verdict, word) == ("held", "Held") and "1 order " in said


@pytest.mark.parametrize(
    ("case", "verdict", "words"),
    [
        (seen(["WORKING"] * 3), "ok", "3 orders with the exchange"),
        (seen(["FILLED", "PARTIAL"]), "ok", "1 order filled"),
        (seen([], decision=False, due=False), "ok", "no decision was due"),
        (seen([], decision=False, due=False, before=["FILLED"]), "ok", "no decision was due"),
        (
            seen([], decision=False, due=False, before=["DEAD"]),
            "held",
            "of the last one, 21 December 2022, 1 order not sent",
        ),
        (seen([], decision=False, due=True), "held", "has not been made"),
        (seen([]), "ok", "asks for no order"),
        (seen(["WORKING"], ("ok", "near")), "near", "1 near the bound"),
        (seen(["DEAD"], ("breach", "near")), "breach", "Beyond the bound: gross exposure"),
        (seen(["DEAD"]), "held", "(why)"),
    ],
)
def test_the_sentence_says_what_matters_most(case, verdict, words):
    found, said, _ = sentence(case)
    assert found == verdict and words in said


def test_the_market_is_the_mean_of_the_names_that_have_a_price():
    prices = pd.DataFrame({"A": [1.0, 1.1, 1.1], "B": [2.0, 2.0, np.nan]}, pd.bdate_range("2022-01-03", periods=3))
    assert equal_weight(prices).tolist() == pytest.approx([0.05, 0.0])


def test_a_page_tells_the_session_as_the_store_does(make_world):
    world = make_world()
    sessions = world.prices.index[world.prices.index <= "2022-12-22"]
    world.run(sessions, 4)
    engine = world.engine
    try:
        told = review(engine, world.settings, "demo", sessions[-1])
        photo = world.steps[-1].photo
        assert float(told.account["equity"].iloc[-1]) == float(photo.equity)
        held = photo.positions["value"].astype(float) / float(photo.equity)
        pd.testing.assert_series_equal(
            told.weights.sort_index(), held.sort_index(), check_names=False, check_index_type=False
        )
        pd.testing.assert_frame_equal(told.limits, world.steps[-1].limits)
        assert told.decision is None and told.latest.decided.session == pd.Timestamp("2022-12-21").date()
        assert told.settings_seen == 1 and told.live_since == pd.Timestamp("2022-12-21")
        first = told.returns.iloc[0]  # both books are bought at this close; ours pays for it
        assert told.market.iloc[0] == 0.0 and -0.001 < first < 0
        assert told.returns.index.equals(told.market.index)
        with pytest.raises(DataError, match="2022-12-27"):
            review(engine, world.settings, "demo", "2022-12-27")
    finally:
        engine.dispose()
