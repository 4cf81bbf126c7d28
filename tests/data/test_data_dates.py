"Dates: three forms come through, one that may be two days never does."

import datetime as dt

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.data.dates import read_dates
from mlt_lib.errors import DataError

DAYS = st.lists(st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)), min_size=1, max_size=30)
PLAIN = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%Y-%m-%d 00:00:00", "%Y-%m-%dT00:00:00.000Z")


@settings(max_examples=60, deadline=None)
@given(DAYS, st.sampled_from(PLAIN))
def test_a_plain_form_comes_back_as_it_was(days, form):
    read = read_dates(pd.Series([day.strftime(form) for day in days]), "x")
    assert [stamp.date() for stamp in read] == days


@settings(max_examples=150, deadline=None)
@given(DAYS, st.sampled_from(["%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y"]), st.booleans())
def test_with_slashes_it_is_right_or_refused(days, form, padded):
    written = pd.Series(
        [day.strftime(form if padded else form.replace("%d", "%-d").replace("%m", "%-m")) for day in days]
    )
    try:
        read = read_dates(written, "x")
    except DataError as error:
        assert "day or the month first" in str(error) and all(day.day <= 12 for day in days)
    else:
        assert [stamp.date() for stamp in read] == days


@settings(max_examples=60, deadline=None)
@given(DAYS, st.sampled_from([("%d/%m/%Y", "day first"), ("%m-%d-%Y", "month first")]))
def test_an_order_that_was_said_is_kept(days, told):
    read = read_dates(pd.Series([day.strftime(told[0]) for day in days]), "x", told[1])
    assert [stamp.date() for stamp in read] == days


def test_the_three_forms_may_stand_in_one_column():
    read = read_dates(pd.Series(["2020-01-31", "14.02.2020", "3/31/2020"]), "x")
    assert read.dt.strftime("%F").tolist() == ["2020-01-31", "2020-02-14", "2020-03-31"]


@pytest.mark.parametrize(
    "cut", ["2020-01-0", "2020-1", "202001", "31/01/202", "2020-13-01", "2020-02-30", "32.01.2020", ""]
)
def test_what_is_no_date_is_none_and_not_another(cut):
    read = read_dates(pd.Series(["2020-01-30", "2020-01-31", cut]), "x")
    assert read.notna().tolist() == [True, True, False]


@pytest.mark.parametrize("order", ["dayfirst", "%d/%m/%Y", "ymd"])
def test_an_unknown_order_is_one_line(order):
    with pytest.raises(DataError, match="write `dates: day first` or `dates: month first`"):
        read_dates(pd.Series(["2020-01-02"]), "x", order)


def test_numbers_of_eight_digits_are_dates_too():
    assert read_dates(pd.Series([20200131, 20200203]), "x").dt.day.tolist() == [31, 3]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=12), st.dates().map(str)), min_size=1, max_size=12))
def test_whatever_stands_there_it_is_a_date_or_none_or_one_line(written):
    try:
        read = read_dates(pd.Series(written, dtype="str"), "x")
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert read.dtype == "datetime64[us]" and len(read) == len(written)
