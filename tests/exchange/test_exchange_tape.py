import gzip
from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError
from mlt_lib.exchange.tape import Tape, prices_from, read_prices, read_tape


def test_a_price_is_the_decimal_in_the_file(tmp_path):
    path = tmp_path / "closes.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("Date,A,B\n2022-12-27,0.1234567890123456789,1e2\n\n2022-12-28T00:00:00,,nan\n")
    prices = read_prices(path)
    assert prices.sessions == ("2022-12-27", "2022-12-28")
    assert prices.at("2022-12-27", "A") == Decimal("0.1234567890123456789")
    assert prices.at("2022-12-27", "B") == 100
    assert prices.at("2022-12-28", "A") is None and prices.at("2022-12-28", "B") is None
    assert prices.at("2022-12-26", "A") is None and prices.at("2022-12-27", "Z") is None


@pytest.mark.parametrize("named", [None, "date", "session"])
def test_parquet_from_pandas_gives_the_same_prices(tmp_path, named):
    days = pd.DatetimeIndex(["2022-12-27", "2022-12-28"], name=named)
    pd.DataFrame({"A": [130.03, 126.04], "B": [1.5, float("nan")]}, index=days).to_parquet(tmp_path / "closes.parquet")
    prices = read_prices(tmp_path / "closes.parquet")
    assert prices.sessions == ("2022-12-27", "2022-12-28") and prices.symbols == ("A", "B")
    assert prices.at("2022-12-28", "A") == Decimal("126.04") and prices.at("2022-12-28", "B") is None


def test_parquet_without_dates_or_damaged_is_refused(tmp_path):
    pd.DataFrame({"A": [1.0]}).to_parquet(tmp_path / "closes.parquet")
    with pytest.raises(DataError, match="one column of dates is needed, found 0"):
        read_prices(tmp_path / "closes.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(DataError, match="torn.parquet: can't be read"):
        read_prices(tmp_path / "torn.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header must name each symbol once"),
        ("date\n2022-12-27\n", "header must name each symbol once"),
        ("date,A,A\n2022-12-27,1,1\n", "header must name each symbol once"),
        ("date,A\n", "no session on the tape"),
        ("date,A\n27/12/2022,1\n", "'27/12/2022' is not a date"),
        ("date,A\n2022-12-27 16:00,1\n", "is not a date"),
        ("date,A\n2022-12-28,1\n2022-12-27,1\n", "2022-12-27 follows 2022-12-28"),
        ("date,A\n2022-12-27,1\n2022-12-27,1\n", "2022-12-27 follows 2022-12-27"),
        ("date,A,B\n2022-12-27,1\n", "has 1 prices for 2 symbols"),
        ("date,A\n2022-12-27,0\n", "A on 2022-12-27 is '0'"),
        ("date,A\n2022-12-27,-1\n", "A on 2022-12-27 is '-1'"),
        ("date,A\n2022-12-27,inf\n", "A on 2022-12-27 is 'inf'"),
        ("date,A\n2022-12-27,1_000\n", "A on 2022-12-27 is '1_000'"),
        ("date,A\n2022-12-27,cheap\n", "A on 2022-12-27 is 'cheap'"),
    ],
)
def test_a_damaged_tape_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "closes.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_prices(path)


def test_a_file_that_is_no_tape_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="no such price tape"):
        read_prices(tmp_path / "nowhere.csv")
    (tmp_path / "closes.csv.gz").write_text("not gzip")
    with pytest.raises(DataError, match="can't be read as a price tape"):
        read_prices(tmp_path / "closes.csv.gz")
    (tmp_path / "closes.csv").write_bytes(b"date,A\n\xff\xfe")
    with pytest.raises(DataError, match="can't be read as a price tape"):
        read_prices(tmp_path / "closes.csv")


def test_sessions_follow_each_other(tape):
    assert tape.following("2022-11-23") == "2022-11-25" and tape.following("2022-11-30") is None
    assert tape.preceding("2022-11-25") == "2022-11-23" and tape.preceding("2022-11-22") is None


def test_opens_are_read_beside_closes(tape_file, opens_file):
    tape = read_tape(tape_file, opens_file)
    assert tape.opens is not None and tape.opens.at("2022-11-28", "AAPL") == Decimal("145.14")
    assert read_tape(tape_file).opens is None


@given(st.lists(st.one_of(st.none(), st.integers(1, 10**6)), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_a_mark_is_the_last_close_known_by_then(closes):
    days = [f"2022-01-{day + 1:02d}" for day in range(len(closes))]
    cells = [["" if close is None else str(close)] for close in closes]
    tape = Tape(prices_from(["A"], zip(days, cells, strict=True), "test"))
    for row, day in enumerate(days):
        known = [close for close in closes[: row + 1] if close is not None]
        assert tape.mark(day, "A") == (known[-1] if known else None)
