"The price contract is strict, names the culprit, and turning the table loses nothing."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError
from mlt_lib.market.panel import check_prices, check_sessions, check_symbols, simple_returns, to_long, to_wide

DAYS = pd.to_datetime(["2020-01-02", "2020-01-03", "2020-01-06"])


def panel(**changes) -> pd.DataFrame:
    "Three sessions of two symbols, with cells changed by position."
    prices = pd.DataFrame({"AAA": [1.0, 2.0, 3.0], "BBB": [4.0, 5.0, 6.0]}, index=DAYS)
    return prices.assign(**changes)


def test_a_good_panel_comes_back_as_float64():
    checked = check_prices(panel(AAA=[1, 2, 3]))
    assert checked.dtypes.eq("float64").all()
    assert checked["AAA"].tolist() == [1.0, 2.0, 3.0]


def test_an_unknown_price_may_stand():
    assert check_prices(panel(AAA=[1.0, np.nan, 3.0]))["AAA"].isna().tolist() == [False, True, False]


def test_a_nullable_column_is_numbers_too():
    column = pd.array([1.0, None, 3.0], dtype="Float64")
    assert check_prices(panel(AAA=column))["AAA"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize("price", [0.0, -1.0, np.inf, -np.inf])
def test_an_impossible_price_is_refused_by_symbol_and_session(price):
    with pytest.raises(DataError, match=r"BBB on 2020-01-03 .*1 such"):
        check_prices(panel(BBB=[4.0, price, 6.0]))


@pytest.mark.parametrize(
    "column",
    [["1", "2", "3"], [True, False, True], pd.to_datetime(["2020-01-02"] * 3), [1 + 0j, 2, 3], [object(), 1.0, 2.0]],
)
def test_what_is_no_number_is_refused(column):
    with pytest.raises(DataError, match="AAA.*not numbers"):
        check_prices(panel(AAA=column))


@pytest.mark.parametrize("prices", [panel()["AAA"], panel().to_numpy(), None])
def test_what_is_no_table_is_refused(prices):
    with pytest.raises(DataError, match="a DataFrame is needed"):
        check_prices(prices)


@pytest.mark.parametrize("prices", [panel().iloc[:0], panel().iloc[:, :0]])
def test_an_empty_table_is_refused(prices):
    with pytest.raises(DataError, match="at least one of each"):
        check_prices(prices)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (pd.RangeIndex(3), "not dates"),
        (pd.Index(["2020-01-02", "2020-01-03", "2020-01-06"]), "not dates"),
        (DAYS.tz_localize("UTC"), "naive"),
        (DAYS + pd.Timedelta(hours=16), "time of day"),
        (DAYS[[0, 2, 1]], "2020-01-03 follows 2020-01-06"),
        (DAYS[[0, 1, 1]], "2020-01-03 follows 2020-01-03"),
        (pd.DatetimeIndex([DAYS[0], pd.NaT, DAYS[2]]), "row 1 has no date"),
    ],
)
def test_sessions_out_of_contract_are_named(index, says):
    with pytest.raises(DataError, match=says):
        check_sessions(index)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (["AAA", "AAA"], "AAA stands there twice"),
        (["AAA", ""], "''"),
        (["AAA", 7], "7 is not"),
        (["AAA", None], "not a symbol"),
    ],
)
def test_symbols_out_of_contract_are_named(columns, says):
    with pytest.raises(DataError, match=says):
        check_symbols(pd.Index(columns, dtype=object))


def test_returns_keep_the_shape_and_leave_gaps_open():
    returns = simple_returns(panel(AAA=[1.0, np.nan, 3.0], BBB=[4.0, 5.0, 4.0]))
    assert returns["AAA"].isna().all()
    assert returns["BBB"].tolist()[1:] == [0.25, pytest.approx(-0.2)]
    assert np.isnan(returns["BBB"].iloc[0])


cells = st.floats(allow_nan=True, allow_infinity=False)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6))
def test_turning_there_and_back_gives_the_same_table(rows):
    wide = pd.DataFrame(rows, index=pd.date_range("2020-01-01", periods=len(rows)), columns=["ZZZ", "AAA", "MMM"])
    long = to_long(wide, "value")
    assert long.index.names == ["date", "symbol"] and long.name == "value" and len(long) == wide.size
    pd.testing.assert_frame_equal(to_wide(long), wide, check_exact=True, check_freq=False)


def test_two_rows_for_one_name_and_date_are_refused():
    long = to_long(panel(), "price")
    with pytest.raises(DataError, match="AAA on 2020-01-02 stands there twice"):
        to_wide(pd.concat([long, long.iloc[:1]]))


def test_another_index_is_refused():
    with pytest.raises(DataError, match="date.*symbol.*is needed"):
        to_wide(panel()["AAA"])
