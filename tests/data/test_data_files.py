"A wide file of closes: numbers come through, damage is listed with its text, a useless file is one line."

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlt_lib.data.files import REFUSED, closes, refused
from mlt_lib.data.sample import closes as sample
from mlt_lib.data.validate import validate
from mlt_lib.errors import DataError, MltError


@pytest.fixture
def write(tmp_path):
    "Writes a file and gives its path."

    def write(content, name="desk.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize("name", ["desk.csv", "desk.csv.gz", "desk.parquet", "DESK.CSV"])
def test_the_sample_survives_the_way_through_a_file(tmp_path, name):
    whole = sample()
    (whole.to_parquet if name.endswith("parquet") else whole.to_csv)(tmp_path / name)
    raw = closes(tmp_path / name)
    pd.testing.assert_frame_equal(raw.prices, whole, check_freq=False, check_column_type=False)
    assert raw.damaged.empty and list(raw.damaged) == REFUSED


def test_a_parquet_with_the_dates_in_a_column_reads_alike(tmp_path):
    part = sample().iloc[:5]
    part.reset_index().to_parquet(tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(closes(tmp_path / "x.parquet").prices, part, check_column_type=False)


def test_text_in_a_parquet_is_damage_too(tmp_path):
    pd.DataFrame({"d": ["2020-01-02", "2020-01-03"], "A": ["1.5", "bad"]}).to_parquet(tmp_path / "x.parquet")
    raw = closes(tmp_path / "x.parquet")
    assert raw.prices["A"].iloc[0] == 1.5 and list(raw.damaged["rule"]) == ["unreadable"]


def test_damage_is_listed_with_its_text_and_place(write):
    raw = closes(write("d,A,B\n2020-01-02,1,<b>?\n2020-01-03,,NA\n2020-01-06,inf,-1\n"))
    assert raw.damaged.drop(columns=["value"]).values.tolist() == [
        [pd.Timestamp("2020-01-02"), "B", "unreadable", "line 2: '<b>?' is not a number"]
    ]
    assert raw.prices["A"].tolist()[::2] == [1.0, np.inf] and np.isnan(raw.prices["A"].iloc[1])
    assert raw.prices["B"].tolist()[2] == -1.0  # judged by validate, not here


def test_a_cut_last_line_is_listed_beside_the_session_before_it(write):
    raw = closes(write("d,A,B\n2020-01-02,1,2\n2020-01-03,1,2\n2020-01-0,3"))
    assert len(raw.prices) == 2
    assert raw.damaged["rule"].tolist() == ["undated"] * 2
    assert raw.damaged["value"].tolist()[0] == 3.0 and np.isnan(raw.damaged["value"].tolist()[1])
    assert (raw.damaged["session"] == pd.Timestamp("2020-01-03")).all()
    assert "line 4" in raw.damaged["detail"].iloc[0] and "'2020-01-0'" in raw.damaged["detail"].iloc[0]


def test_damage_reaches_the_quarantine_and_is_not_called_missing(write):
    raw = closes(write("d,A\n2020-01-02,1\n2020-01-03,x\n2020-01-06,1\n"))
    found = validate(raw.prices, damaged=raw.damaged)
    assert found.quarantine[["session", "rule"]].values.tolist() == [[pd.Timestamp("2020-01-03"), "unreadable"]]


def test_midnight_is_a_date_and_another_time_is_none(write):
    raw = closes(write("d,A\n2020-01-02 00:00:00,1\n2020-01-03T00:00,2\n2020-01-06,3\n2020-01-07 16:00,4\n"))
    assert list(raw.prices.index.day) == [2, 3, 6] and raw.damaged["rule"].tolist() == ["undated"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("desk.csv", "", "can't be read as a table"),
        ("desk.csv", "d,A\n", "holds no prices"),
        ("desk.csv", "d\n2020-01-02\n", "holds no prices"),
        ("desk.csv", "d;A\n2020-01-02;1\n", "commas between"),
        ("desk.csv", "d,A,A\n2020-01-02,1,2\n", "A heads two columns"),
        ("desk.csv", "d,A, A\n2020-01-02,1,2\n", "A heads two columns"),
        ("desk.csv", "d,A,\n2020-01-02,1,2\n", "column 3 has no readable symbol"),
        ("desk.csv", 'd,"A\nB"\n2020-01-02,1\n', "column 2 has no readable symbol"),
        ("desk.csv", "d,A\n2020-01-02,1,2,3\n", "can't be read as a table"),
        ("desk.csv", "d,A\n02/01/2020,1\n03/01/2020,1\n", "'02/01/2020' may have the day or the month first"),
        ("desk.csv", "d,A\n13/01/2020,1\n01/14/2020,1\n", r"date 1 .*puts the day first and date 2 .*the month"),
        ("desk.csv", "d,A\n02.01.20,1\n03.01.20,1\n", "dates written YYYY-MM-DD; read '02.01.20'"),
        ("desk.csv", "A,B\n1,2\n3,4\n", "dates written YYYY-MM-DD; read '1'"),
        ("desk.csv", b"d,A\n2020-01-02,\xff\xfe\n", "can't be read as a table"),
        ("desk.csv.gz", b"not gzip", "can't be read as a table"),
        ("desk.csv.gz", gzip.compress(b"d,A\n2020-01-02,1\n" * 50)[:-12], "can't be read as a table"),
        ("desk.parquet", b"not parquet", "can't be read as a table"),
        ("desk.xlsx", b"", "not a kind of price file"),
    ],
)
def test_a_useless_file_is_one_line_that_names_it(write, name, content, words):
    with pytest.raises(DataError, match=words) as caught:
        closes(write(content, name))
    assert str(caught.value).startswith(name) and "\n" not in str(caught.value)


def test_an_absent_file_says_where_to_name_it(tmp_path):
    with pytest.raises(DataError, match=r"no such file; set \[data\] path"):
        closes(tmp_path / "absent.csv")


def test_moments_with_a_time_zone_are_refused(tmp_path):
    zoned = pd.DataFrame({"d": pd.date_range("2020-01-02 05:00", periods=2, tz="UTC"), "A": [1.0, 2.0]})
    zoned.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="time zone UTC"):
        closes(tmp_path / "x.parquet")


def test_midnights_of_the_exchange_are_its_dates(tmp_path, write):
    zoned = pd.DataFrame({"d": pd.date_range("2020-01-02", periods=2, tz="America/New_York"), "A": [1.0, 2.0]})
    zoned.to_parquet(tmp_path / "x.parquet")
    zoned.to_csv(tmp_path / "x.csv", index=False)
    for name in ("x.parquet", "x.csv"):
        assert list(closes(tmp_path / name).prices.index) == [pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-03")]


def test_an_empty_table_of_refused_cells_keeps_its_types():
    assert refused([]).dtypes.astype(str)["session"] == "datetime64[us]" and refused([])["value"].dtype == float


CELL = st.one_of(
    st.sampled_from(["1", "2.5", "", "nan", "inf", "-3", "0", "x", "1e400", '"1,5"', "2020-01-02", "2020-01-03"]),
    st.text(max_size=6),
)
ROW = st.lists(CELL, min_size=1, max_size=4).map(",".join)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, max_size=6).map("\n".join))
@example("d,A\n2020-01-02,1e400\n1700-01-01,1\n9999-12-31,1")
@example('d,A\n2020-01-02,"1')
def test_whatever_the_file_holds_no_bad_price_comes_out(tmp_path, text):
    path = tmp_path / "desk.csv"
    path.write_text("d,A,B\n2020-01-02,1,1\n2020-01-03,1,1\n" + text, encoding="utf-8", errors="surrogateescape")
    try:
        raw = closes(path)
        found = validate(raw.prices, damaged=raw.damaged)
    except MltError as error:
        assert str(error) and "\n" not in str(error)
        return
    kept = found.prices.to_numpy()
    assert (np.isnan(kept) | (np.isfinite(kept) & (kept > 0))).all()
    assert found.quarantine["session"].notna().all() and found.quarantine["symbol"].isin(["A", "B"]).all()
