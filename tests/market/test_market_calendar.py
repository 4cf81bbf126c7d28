"The calendar answers as the exchange did, refuses what is no date, and decides without looking ahead."

from datetime import date, datetime

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError, SettingsError
from mlt_lib.market.calendar import (
    EVERY,
    decision_sessions,
    decision_time,
    is_decision_session,
    is_session,
    next_session,
    previous_session,
    require_session,
    session_close,
    session_closes,
    session_hours,
    session_open,
    sessions,
)


@pytest.fixture(scope="module")
def xnys():
    return exchange_calendars.get_calendar("XNYS", start="1985-01-01", end="2024-12-31")


days = st.dates(date(1986, 1, 1), date(2030, 12, 31))


def test_sessions_are_those_of_the_library(xnys):
    ours = sessions("1990-01-01", "2023-12-31")
    theirs = xnys.sessions_in_range("1990-01-01", "2023-12-31")
    assert ours.equals(theirs.as_unit("us"))
    assert ours.tz is None and ours.freq is None


def test_a_longer_calendar_does_not_change_the_past(xnys):
    assert sessions("1985-01-01", "2024-12-31").equals(xnys.sessions.as_unit("us"))


def test_opens_and_closes_are_those_of_the_library(xnys):
    for day in xnys.sessions_in_range("2018-01-01", "2020-12-31"):
        assert session_open(day) == xnys.session_open(day)
        assert session_close(day) == xnys.session_close(day) == decision_time(day)


@pytest.mark.parametrize(
    "day",
    [
        "2001-09-11", "2001-09-14",  # the attacks
        "2012-10-29", "2012-10-30",  # Hurricane Sandy
        "2018-12-05", "2007-01-02",  # mourning for two presidents
        "2022-04-15",  # Good Friday, no federal holiday
        "2021-12-24", "2022-06-20", "2022-07-02",
    ],
)  # fmt: skip
def test_days_without_trading(day):
    assert not is_session(day)
    with pytest.raises(DataError, match=f"{day} .*{next_session(day):%Y-%m-%d}.*{previous_session(day):%Y-%m-%d}"):
        require_session(day)


@pytest.mark.parametrize("day", ["2001-09-10", "2001-09-17", "2012-10-31", "2021-12-31", "2021-06-18", "2022-12-28"])
def test_days_with_trading(day):
    assert is_session(day)
    assert require_session(day) == pd.Timestamp(day)


@pytest.mark.parametrize(
    ("day", "close"),
    [
        ("2022-11-25", "18:00"),  # early close, winter time
        ("2019-07-03", "17:00"),  # early close, summer time
        ("2022-03-11", "21:00"),
        ("2022-03-14", "20:00"),  # the clocks went forward between
    ],
)
def test_closes_in_utc(day, close):
    assert decision_time(day) == pd.Timestamp(f"{day} {close}", tz="UTC")
    assert str(decision_time(day).tz) == "UTC"


def test_instants_need_a_session():
    for question in (session_open, session_close, decision_time):
        with pytest.raises(DataError, match="2020-12-25"):
            question("2020-12-25")


@settings(max_examples=80, deadline=None)
@given(day=days)
def test_next_and_previous_are_inverse_and_strict(day):
    after, before = next_session(day), previous_session(day)
    assert before < pd.Timestamp(day) < after
    assert is_session(after) and is_session(before)
    assert previous_session(next_session(after)) == after
    assert next_session(previous_session(before)) == before
    assert len(sessions(before, after)) == 2 + is_session(day)


@settings(max_examples=40, deadline=None)
@given(start=days, end=days)
def test_sessions_split_where_you_like(start, end):
    start, end = sorted((start, end))
    whole = sessions(start, end)
    assert all(is_session(day) for day in whole[:3])
    middle = date.fromordinal((start.toordinal() + end.toordinal()) // 2)
    parts = [sessions(start, middle)]
    if middle < end:
        parts.append(sessions(date.fromordinal(middle.toordinal() + 1), end))
    assert np.concatenate(parts).tolist() == whole.to_numpy().tolist()


@pytest.mark.parametrize(
    "form",
    ["2020-03-16", date(2020, 3, 16), datetime(2020, 3, 16), np.datetime64("2020-03-16"), pd.Timestamp("2020-03-16")],
)
def test_a_date_may_come_in_any_usual_form(form):
    assert require_session(form) == pd.Timestamp("2020-03-16")


@pytest.mark.parametrize(
    "day",
    [
        "someday",
        "2020-13-01",
        "",
        None,
        pd.NaT,
        object(),
        "2020-03-16 15:00",
        pd.Timestamp("2020-03-16", tz="UTC"),
        "now",
    ],
)
def test_what_is_no_plain_date_is_refused(day):
    with pytest.raises(DataError, match="date"):
        is_session(day)


@pytest.mark.parametrize("day", ["1984-12-31", "2100-01-01", "0001-01-01", "9999-12-31"])
def test_a_date_outside_the_calendar_is_refused(day):
    with pytest.raises(DataError, match="outside the calendar"):
        next_session(day)


def test_the_edges_of_the_calendar():
    assert next_session("1985-01-01") == pd.Timestamp("1985-01-02")
    assert next_session("2099-12-31") > pd.Timestamp("2099-12-31")
    with pytest.raises(DataError, match="no session before"):
        previous_session("1985-01-02")
    with pytest.raises(DataError, match="1985-01-02 is the session after"):
        require_session("1985-01-01")


def test_a_span_backwards_is_refused_and_a_weekend_is_empty():
    with pytest.raises(DataError, match="swap"):
        sessions("2020-01-02", "2020-01-01")
    assert sessions("2020-01-04", "2020-01-05").empty


def test_daily_decisions_are_all_sessions():
    all_of_it = sessions("2020-01-01", "2020-12-31")
    assert decision_sessions(all_of_it, "daily").equals(all_of_it)


def test_weekly_decisions_by_hand():
    december = decision_sessions(sessions("2001-09-01", "2001-09-30"), "weekly")
    assert december.strftime("%m-%d").tolist() == ["09-05", "09-10", "09-19", "09-26"]
    assert is_decision_session("2019-12-24", "weekly")  # a Tuesday before Christmas
    assert not is_decision_session("2019-12-23", "weekly")


def test_each_week_decides_once_on_its_last_session_up_to_wednesday():
    known = sessions("1990-01-01", "2023-12-31")
    decided = decision_sessions(known, "weekly")
    early = pd.Series(known[known.day_of_week <= 2])
    iso = early.dt.isocalendar()
    expected = early.groupby([iso["year"], iso["week"]]).max().sort_values()
    assert decided.tolist() == expected.tolist()


def test_monthly_decisions_are_the_last_sessions_of_the_months(xnys):
    known = sessions("1990-01-01", "2023-12-31")
    last = pd.Series(known, index=known).groupby(known.to_period("M")).max()
    assert decision_sessions(known, "monthly").tolist() == last.tolist()


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 754), every=st.sampled_from(EVERY))
def test_decisions_do_not_depend_on_where_the_data_end(cut, every):
    known = sessions("2020-01-01", "2022-12-31")
    whole, part = decision_sessions(known, every), decision_sessions(known[:cut], every)
    assert part.equals(whole[whole <= known[cut - 1]])
    assert is_decision_session(known[cut - 1], every) == (known[cut - 1] in whole)


def test_the_index_keeps_its_resolution():
    known = sessions("2020-01-01", "2020-02-28")
    for unit in ("s", "us", "ns"):
        assert decision_sessions(known.as_unit(unit), "weekly").unit == unit


def test_a_row_that_is_no_session_is_named():
    with pytest.raises(DataError, match="2020-12-25.*not a session"):
        decision_sessions(pd.bdate_range("2020-12-21", "2020-12-31"), "weekly")
    with pytest.raises(DataError, match="2020-12-25"):
        is_decision_session("2020-12-25", "daily")


def test_no_sessions_no_decisions():
    assert decision_sessions(pd.DatetimeIndex([]), "weekly").empty


def test_an_unknown_rhythm_lists_the_known():
    for ask in (
        lambda: is_decision_session("2020-03-16", "hourly"),
        lambda: decision_sessions(pd.DatetimeIndex([]), ""),
    ):
        with pytest.raises(SettingsError, match="daily, weekly, monthly"):
            ask()


def test_the_cached_calendar_cannot_be_spoilt():
    kept = sessions("2020-01-01", "2020-12-31")
    with pytest.raises(TypeError):
        kept[0] = pd.Timestamp("1999-01-01")


# many sessions at once


@given(st.lists(st.integers(0, 9000), max_size=30))
@settings(max_examples=30, deadline=None)
def test_many_sessions_answer_as_each_alone(places):
    asked = sessions("1985-01-01", "2022-12-30")[places]
    opens, closes = session_hours(asked)
    assert list(opens) == [session_open(day) for day in asked]
    assert list(closes) == list(session_closes(asked)) == [session_close(day) for day in asked]


@pytest.mark.parametrize(
    ("day", "says"),
    [
        ("2022-11-24", r"2022-11-24 \(Thursday\) is not a session"),
        ("1929-10-24", "outside the calendar"),
        ("2022-11-23 10:00", "without time or zone"),
        (pd.NaT, "can't be read|without time or zone"),
    ],
)
def test_one_stranger_among_many_sessions_is_named(day, says):
    with pytest.raises(DataError, match=says):
        session_closes(pd.DatetimeIndex(["2022-11-23", day]))
