"Spans: what is written down is what was fetched, whatever the order; failures stay until they are settled."

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError
from mlt_lib.market.calendar import sessions
from mlt_lib.store.database import open_database
from mlt_lib.store.fetches import (
    DAY,
    fetched_spans,
    joined,
    left_of,
    mark_fetched,
    missing_spans,
    open_failures,
    record_failure,
    settle_failures,
)

START = dt.date(2020, 1, 1)
SPAN = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(
    lambda p: (START + p[0] * DAY, START + (p[0] + p[1]) * DAY)
)


def days(spans) -> set[dt.date]:
    return {first + n * DAY for first, last in spans for n in range((last - first).days + 1)}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('fetches')}/desk.db")
    yield engine
    engine.dispose()


@settings(max_examples=200, deadline=None)
@given(st.lists(SPAN, max_size=12))
def test_joined_spans_hold_the_same_days_and_never_touch(spans):
    found = joined(spans)
    assert days(found) == days(spans)
    assert all(last + DAY < first for (_, last), (first, _) in zip(found, found[1:], strict=False))


@settings(max_examples=200, deadline=None)
@given(SPAN, st.lists(SPAN, max_size=8))
def test_what_is_left_is_what_was_wanted_without_what_was_had(wanted, had):
    assert days(left_of(wanted, had)) == days([wanted]) - days(had)


@settings(max_examples=25, deadline=None)
@given(st.lists(SPAN, min_size=1, max_size=8), SPAN, st.integers())
def test_whatever_the_order_of_fetching_every_session_is_had_once_or_missing(engine, spans, wanted, symbol):
    name = f"S{symbol}"
    for first, last in spans:
        mark_fetched(engine, "s", "bars", [name], first, last, {name: 1})
    stored = fetched_spans(engine, "s", "bars")[name]
    assert stored == joined(stored) and days(stored) >= days(spans)
    missing = missing_spans(engine, "s", "bars", [name], *wanted).get(name, [])
    trading = {day.date() for day in sessions(*wanted)}
    assert days(missing) & trading == trading - days(stored)
    for first, last in missing:
        mark_fetched(engine, "s", "bars", [name], first, last)
    assert missing_spans(engine, "s", "bars", [name], *wanted) == {}


def test_rows_add_up_and_sources_and_datasets_stay_apart(engine):
    mark_fetched(engine, "a", "bars", ["KO"], START, START + DAY, {"KO": 2})
    mark_fetched(engine, "a", "bars", ["KO"], START + 2 * DAY, START + 3 * DAY, {"KO": 3})
    assert fetched_spans(engine, "a", "bars") == {"KO": [(START, START + 3 * DAY)]}
    assert fetched_spans(engine, "a", "news") == fetched_spans(engine, "b", "bars") == {}


def test_what_makes_no_sense_is_one_line(engine):
    with pytest.raises(DataError, match="the end lies before the start"):
        mark_fetched(engine, "a", "bars", ["KO"], START + DAY, START)
    with pytest.raises(DataError, match="there are bars, news, posts"):
        missing_spans(engine, "a", "ticks", ["KO"], START, START)


def test_a_failure_is_kept_once_and_settled_by_an_answer(engine):
    assert open_failures(engine).empty and settle_failures(engine, "yahoo") == 0
    record_failure(engine, "yahoo", "yahoo: no answer.", {"symbols": ["KO"]})
    record_failure(engine, "yahoo", "yahoo: HTTP 500.", {"symbols": ["KO"]})
    record_failure(engine, "reddit", "reddit: wrong key.", {})
    shown = open_failures(engine)
    assert shown[["source", "attempts", "reason"]].values.tolist() == [
        ["yahoo", 2, "yahoo: HTTP 500."],
        ["reddit", 1, "reddit: wrong key."],
    ]
    assert settle_failures(engine, "yahoo") == 1 and open_failures(engine)["source"].tolist() == ["reddit"]
    record_failure(engine, "yahoo", "yahoo: again.", {})
    assert open_failures(engine).set_index("source")["attempts"].to_dict() == {"reddit": 1, "yahoo": 1}
