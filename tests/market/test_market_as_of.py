"The join: equal to a plain search through all facts, never later than known, and clear about what it can't use."

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError
from mlt_lib.market.as_of import as_of_join

START = pd.Timestamp("2020-01-01", tz="UTC")
small = st.integers(0, 6)
facts_drawn = st.lists(st.tuples(st.sampled_from("ABC"), small, small, small), max_size=25)
asked_drawn = st.lists(st.tuples(st.sampled_from("ABCX"), st.integers(-2, 8)), max_size=12)


def table(rows, unit="D"):
    frame = pd.DataFrame(rows, columns=["symbol", "event", "delay", "late"]).astype(
        {"event": int, "delay": int, "late": int}
    )
    event = START + pd.to_timedelta(frame["event"], unit=unit)
    known = event + pd.to_timedelta(frame["delay"], unit=unit)
    return pd.DataFrame(
        {
            "symbol": frame["symbol"].astype(object),
            "event_time": event,
            "known_time": known,
            "recorded_time": known + pd.to_timedelta(frame["late"], unit=unit),
            "value": np.arange(len(frame), dtype=float),
        }
    )


def questions(rows, unit="D"):
    frame = pd.DataFrame(rows, columns=["symbol", "day"]).astype({"day": int})
    moments = START + pd.to_timedelta(frame["day"], unit=unit)
    return pd.DataFrame({"symbol": frame["symbol"].astype(object), "decision_time": moments})


def by_search(asked, facts, within=None, recorded_by=None):
    "The newest event known by then; of one event the row known last, then recorded last, then standing last."
    found = []
    for symbol, moment in asked.itertuples(index=False):
        fit = facts[(facts["symbol"] == symbol) & (facts["known_time"] <= moment)]
        if recorded_by is not None:
            fit = fit[fit["recorded_time"] <= recorded_by]
        fit = fit.assign(place=fit.index).sort_values(["event_time", "known_time", "recorded_time", "place"])
        fresh = len(fit) and (within is None or moment - fit["event_time"].iloc[-1] <= within)
        found.append(fit["value"].iloc[-1] if fresh else np.nan)
    return np.array(found, float)


@settings(max_examples=150, deadline=None)
@given(rows=facts_drawn, ask=asked_drawn, within=st.none() | st.integers(0, 5), by=st.none() | st.integers(0, 12))
@example([("A", 0, 5, 0), ("A", 2, 1, 0)], [("A", 5)], None, None)  # the older event becomes known later
def test_equals_a_search_through_all_facts(rows, ask, within, by):
    facts, asked = table(rows), questions(ask)
    limit = None if within is None else dt.timedelta(days=within)
    moment = None if by is None else START + pd.Timedelta(days=by)
    found = as_of_join(asked, facts, within=limit, recorded_by=moment)["value"]
    np.testing.assert_array_equal(found.to_numpy(float), by_search(asked, facts, limit, moment))


@settings(max_examples=60, deadline=None)
@given(rows=facts_drawn, ask=asked_drawn, seed=st.integers(0, 9))
def test_the_order_of_distinct_facts_does_not_matter(rows, ask, seed):
    facts, asked = table(dict.fromkeys(rows)), questions(ask)
    facts = facts.drop_duplicates(["symbol", "event_time", "known_time", "recorded_time"])
    found = as_of_join(asked, facts)
    pd.testing.assert_frame_equal(found, as_of_join(asked, facts.sample(frac=1, random_state=seed)))


@settings(max_examples=60, deadline=None)
@given(rows=facts_drawn, ask=asked_drawn, shift=st.integers(1, 4))
def test_facts_known_later_answer_later(rows, ask, shift):
    facts, asked = table(rows), questions(ask)
    later = facts.assign(known_time=facts["known_time"] + pd.Timedelta(days=shift))
    postponed = asked.assign(decision_time=asked["decision_time"] + pd.Timedelta(days=shift))
    pd.testing.assert_frame_equal(as_of_join(postponed, later), as_of_join(asked, facts))


@settings(max_examples=60, deadline=None)
@given(rows=facts_drawn, more=facts_drawn, ask=asked_drawn)
def test_what_becomes_known_after_the_question_changes_no_answer(rows, more, ask):
    facts, asked = table(rows), questions(ask)
    last = asked["decision_time"].max() if len(asked) else START
    future = table(more)
    future["known_time"] = future["known_time"].clip(lower=last + pd.Timedelta(microseconds=1))
    both = pd.concat([facts, future], ignore_index=True)
    pd.testing.assert_frame_equal(as_of_join(asked, both), as_of_join(asked, facts))


@pytest.mark.parametrize("many", [3, 40_000])
def test_times_that_need_ranks_give_the_same(many):
    "Many names over a century to the microsecond don't fit into one whole number."
    chance = np.random.default_rng(0)
    names = np.array([f"S{n}" for n in range(many)], dtype=object)
    start, span = np.datetime64("1930-01-01", "us"), 100 * 365 * 86_400_000_000
    facts = pd.DataFrame(
        {
            "symbol": np.concatenate([names, chance.choice(names, 2000)]),
            "known_time": start + chance.integers(0, span, many + 2000).astype("timedelta64[us]"),
            "value": np.arange(many + 2000.0),
        }
    )
    asked = pd.DataFrame(
        {
            "symbol": chance.choice(names, 500),
            "decision_time": start + chance.integers(-span // 10, span + span // 10, 500).astype("timedelta64[us]"),
        }
    )
    ordered = asked.sort_values("decision_time", kind="stable")
    oracle = pd.merge_asof(
        ordered,
        facts.sort_values("known_time", kind="stable"),
        left_on="decision_time",
        right_on="known_time",
        by="symbol",
    )
    found = as_of_join(asked, facts)["value"].loc[ordered.index]
    np.testing.assert_array_equal(found.to_numpy(), oracle["value"].to_numpy())


def test_two_keys_and_several_values_keep_their_kinds():
    facts = table([("A", 0, 0, 0), ("A", 1, 0, 0)]).assign(item=["sales", "assets"], word=["one", "two"], count=[1, 2])
    asked = (
        questions([("A", 3), ("A", 3), ("B", 3)])
        .assign(item=["assets", "profit", "sales"])
        .set_index(pd.Index([7, 8, 9]))
    )
    found = as_of_join(asked, facts, by=("symbol", "item"), values=("word", "count", "event_time"))
    assert (
        found.index.tolist() == [7, 8, 9]
        and found["word"].tolist()[0] == "two"
        and found["word"].isna().tolist()[1:] == [True] * 2
    )
    assert found["count"].iloc[0] == 2 and found["event_time"].dt.tz is not None


def test_a_withdrawn_value_answers_with_nothing():
    facts = table([("A", 0, 0, 0), ("A", 0, 1, 0)])
    facts.loc[1, "value"] = np.nan
    found = as_of_join(questions([("A", 0), ("A", 1)]), facts)["value"]
    assert found.iloc[0] == 0 and np.isnan(found.iloc[1])


def test_no_facts_and_no_questions():
    assert as_of_join(questions([("A", 0)]), table([]))["value"].isna().all()
    assert len(as_of_join(questions([]), table([("A", 0, 0, 0)]))) == 0
    assert (
        as_of_join(questions([("A", 0)]), table([("A", 0, 0, 0)]), recorded_by=START - pd.Timedelta("1D"))["value"]
        .isna()
        .all()
    )


def test_what_it_can_not_use_is_named():
    facts, asked = table([("A", 0, 0, 0)]), questions([("A", 0)])
    with pytest.raises(DataError, match="time zone"):
        as_of_join(asked.assign(decision_time=asked["decision_time"].dt.tz_localize(None)), facts)
    with pytest.raises(DataError, match="row 0 of the lookups has no decision_time"):
        as_of_join(asked.assign(decision_time=pd.Series([pd.NaT], dtype="datetime64[us, UTC]")), facts)
    with pytest.raises(DataError, match="no column 'known_time'"):
        as_of_join(asked, facts.drop(columns="known_time"))
    with pytest.raises(DataError, match="row 0 of the facts has no symbol"):
        as_of_join(asked, facts.assign(symbol=[None]))
