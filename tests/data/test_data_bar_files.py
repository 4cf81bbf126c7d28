"Files of bars: whatever the headings, the numbers come through; what doesn't is listed with its line."

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlt_lib.data.bar_files import bars
from mlt_lib.data.headings import recognise
from mlt_lib.data.sample import closes as sample
from mlt_lib.data.source import ACTION_COLUMNS, BAR_COLUMNS
from mlt_lib.errors import DataError

LONG = """ticker,date,open,high,low,close,volume,dividend,split
KO,2018-01-02,45.9,46.0,45.5,45.54,10872000,0,1
KO,2018-01-03,45.5,45.7,45.3,45.44,12635600,0.37,1
XOM,2018-01-02,83.8,85.1,83.8,85.03,11469300,0,2
XOM,2018-01-03,85.2,87.0,84.7,86.70,13957700,0,1
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_long_file_comes_through_with_its_actions(write):
    raw = bars(write(LONG))
    assert list(raw.bars) == list(BAR_COLUMNS) and len(raw.bars) == 4 and raw.damaged.empty
    assert raw.bars["close"].tolist() == [45.54, 45.44, 85.03, 86.70]
    assert raw.actions.values.tolist() == [
        ["XOM", pd.Timestamp("2018-01-02"), "split", 2.0],
        ["KO", pd.Timestamp("2018-01-03"), "dividend", 0.37],
    ]


@pytest.mark.parametrize("name", ["mine.csv", "mine.csv.gz", "mine.parquet"])
def test_the_kind_of_file_makes_no_difference(tmp_path, write, name):
    table = pd.read_csv(io.StringIO(LONG))
    (table.to_parquet if name.endswith("parquet") else table.to_csv)(tmp_path / name, index=False)
    raw, plain = bars(tmp_path / name), bars(write(LONG, "plain.csv"))
    pd.testing.assert_frame_equal(raw.bars, plain.bars)
    pd.testing.assert_frame_equal(raw.actions, plain.actions)


def test_an_index_of_dates_and_symbols_is_read(tmp_path):
    table = pd.read_csv(io.StringIO(LONG), parse_dates=["date"]).set_index(["date", "ticker"])
    table.to_parquet(tmp_path / "x.parquet")
    assert len(bars(tmp_path / "x.parquet").bars) == 4


def test_a_vendor_s_file_of_one_name_is_called_by_it(write):
    text = "Date,Open,High,Low,Close,Volume\n2020-01-02,1,2,1,2,100\n2020-01-03,2,3,2,3,100\n"
    assert bars(write(text, "aapl.csv")).bars["symbol"].tolist() == ["AAPL", "AAPL"]


def test_headings_of_one_s_own_are_said_in_the_settings(write):
    text = "Kürzel;Tag".replace(";", ",") + ",Schluss\nKO,02.01.2018,45.54\nKO,03.01.2018,45.44\n"
    raw = bars(write(text), (("symbol", "Kürzel"), ("session", "Tag"), ("close", "Schluss")))
    assert raw.bars["session"].dt.strftime("%F").tolist() == ["2018-01-02", "2018-01-03"]


def test_the_order_of_dates_is_said_there_too(write):
    text = "symbol,date,close\nKO,02/01/2018,1\nKO,03/01/2018,1\n"
    with pytest.raises(DataError, match=r"mine.csv: dates like '02/01/2018'.*\[data\] columns"):
        bars(write(text))
    assert bars(write(text), (("dates", "day first"),)).bars["session"].dt.month.tolist() == [1, 1]
    with pytest.raises(DataError, match=r"\[data\] columns: dates: 'both'"):
        bars(write(text), (("dates", "both"),))


def test_a_wide_file_with_dates_of_its_own_order(write):
    raw = bars(write("d,KO\n02/01/2018,1\n03/01/2018,2\n"), (("dates", "month first"),))
    assert raw.wide.index.month.tolist() == [2, 3] and len(raw.bars) == 2


def test_a_wide_table_melts_and_keeps_its_closes(tmp_path):
    part = sample().iloc[:30].copy()
    part.iloc[3, 4] = np.nan
    part.to_csv(tmp_path / "w.csv")
    raw = bars(tmp_path / "w.csv")
    back = raw.bars.pivot(index="session", columns="symbol", values="close")
    pd.testing.assert_frame_equal(back, raw.wide, check_freq=False, check_column_type=False, check_like=True)
    assert raw.bars["open"].isna().all() and "w.csv" in raw.note and "/" not in raw.note


def test_damage_is_listed_with_line_field_and_text(write):
    text = LONG.replace("12635600", "ask Ann").replace("85.03", "<b>").replace("XOM,2018-01-03", ",2018-01-03")
    raw = bars(write(text + "KO,2018-01-0,1,1,1,1,1,0,1\nKO,2018-01-05,1,1,1,,5,-2,-4\n"))
    listed = raw.damaged.set_index("rule")["detail"].to_dict()
    unread = raw.damaged.loc[raw.damaged["rule"] == "unreadable", "detail"].tolist()
    assert any("line 3: 'ask Ann' is no number (volume)" in d for d in unread)
    assert any("line 4: '<b>' is no number (close)" in d for d in unread)
    assert "line 5: ''" in listed["unnamed"] and "line 6: '2018-01-0'" in listed["undated"]
    assert "-4" in listed["impossible-split"] and "-2" in listed["impossible-dividend"] and "no-close" in listed
    assert raw.damaged["session"].notna().all() and len(raw.bars) == 2 and np.isnan(raw.bars["volume"][1])
    assert len(raw.actions) == 2  # the row whose close could not be read still tells of its split


def test_adjusted_closes_alone_make_total_return_units(write):
    text = "symbol,date,open,close,adj close\nKO,2018-01-02,46,48,24\nKO,2018-01-03,24,25,25\n"
    raw = bars(write(text))
    assert raw.bars[["open", "close"]].values.tolist() == [[23, 24], [24, 25]] and "adj_close" not in raw.bars
    assert "restates" in raw.note
    beside = bars(write(text.replace("adj close", "adj close,dividends").replace("\n", ",0\n").replace("s,0", "s")))
    assert beside.bars["close"].tolist() == [48, 25] and beside.bars["adj_close"].tolist() == [24, 25]


@pytest.mark.parametrize(
    ("written", "value"), [("2:1", 2), ("3/2", 1.5), (" 1:10 ", 0.1), ("7", 7), ("1", None), ("0", None)]
)
def test_a_ratio_may_be_written_as_newspapers_do(write, written, value):
    raw = bars(write(f"symbol,date,close,split\nKO,2018-01-02,4,{written}\n"))
    assert raw.actions["value"].tolist() == ([] if value is None else [value]) and raw.damaged.empty


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            LONG.replace("\n", ",GBp\n").replace("split,GBp", "split,currency"),
            "line 2 is in 'GBP'; this desk keeps one",
        ),
        ("symbol,date,close\n", "holds no prices"),
        ("symbol,date,close\nKO,yesterday,1\n", "the column date must be dates written YYYY-MM-DD; read 'yesterday'"),
        ("symbol,date,price,close\nKO,2018-01-02,1,1\n", "both 'price' and 'close' may be the close"),
    ],
)
def test_a_useless_file_is_one_line_that_names_it(write, text, words):
    with pytest.raises(DataError, match=words) as caught:
        bars(write(text))
    assert str(caught.value).startswith("mine.csv: ") and "\n" not in str(caught.value)


def test_dollars_in_any_case_are_dollars(write):
    assert len(bars(write("symbol,date,close,ccy\nKO,2018-01-02,4,usd\nKO,2018-01-03,4,\n")).bars) == 2


def test_companies_that_are_called_like_columns_stay_companies():
    assert not recognise(["Date", "LOW", "OPEN", "HIGH", "V", "C", "O"]).long
    assert not recognise(["symbol", "session", "KO"]).long
    assert recognise(["Date", "Close"]).long


NAMES = ["ticker", "symbol", "date", "close", "Open", "volume", "adj close", "split", "dividends", "ccy", "KO", "x"]
CELL = st.one_of(
    st.sampled_from(
        ["KO", "2020-01-02", "2020-01-03", "03/04/2020", "1", "2.5", "", "nan", "inf", "-3", "2:1", "1e400", "USD"]
    ),
    st.text(max_size=5),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=6),
    st.lists(st.lists(CELL, min_size=1, max_size=6), max_size=6),
)
def test_whatever_the_file_holds_there_are_bars_or_one_line(tmp_path, heads, rows):
    path = tmp_path / "any.csv"
    path.write_text("\n".join(",".join(row) for row in [heads, *rows]), encoding="utf-8", errors="surrogateescape")
    try:
        raw = bars(path)
    except DataError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert set(BAR_COLUMNS) <= set(raw.bars) and raw.bars["session"].notna().all() and raw.bars["close"].notna().all()
    assert (raw.bars["symbol"] != "").all() and list(raw.actions) == list(ACTION_COLUMNS)
    assert np.isfinite(raw.actions["value"]).all() and (raw.actions["value"] > 0).all()
    assert raw.damaged[["symbol", "rule", "detail"]].notna().all(axis=None)
