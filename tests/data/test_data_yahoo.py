"Yahoo's bars through yfinance's door, against a server that splits, refuses, breaks off and lies."

import time
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from fixture_server import FAULTS, made_bars, opening, patience, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.data.source import BAR_COLUMNS, Ask
from mlt_lib.data.yahoo import YahooBars
from mlt_lib.data.yahoo_answers import read_chart, unadjustment
from mlt_lib.errors import DataError, SourceError

pytest.importorskip("yfinance")
NOW = datetime(2022, 4, 10, tzinfo=UTC)
JANUARY = (date(2022, 1, 3), date(2022, 1, 31))
SPAN = tuple(pd.Timestamp(day) for day in ("2022-01-03", "2022-01-31", "2022-04-10"))


@pytest.fixture(scope="module")
def server():
    with serving() as vendors:
        yield vendors


@pytest.fixture
def vendors(server):
    server.bars = {"AAPL": made_bars("AAPL", 100.0), "KO": made_bars("KO", 50.0), "BRK.B": made_bars("BRK.B", 300.0)}
    server.yahoo, server.wait = {}, {}
    server.requests.clear()
    server.faults.clear()
    return server


@pytest.fixture
def yahoo(vendors):
    return YahooBars(vendors.url, timeout_seconds=20, clock=lambda: NOW)


def test_no_request_leaves_for_yahoo(yahoo, vendors):
    (page,) = yahoo.pages(Ask(("KO",), *JANUARY))
    assert len(page.bars) == 20 and page.complete == ("KO",)
    assert [path for path, _ in vendors.requests] == ["/", "/v1/test/getcrumb", "/v8/finance/chart/KO"]


def test_prices_become_raw_again_whatever_splits_came_later(yahoo, vendors):
    vendors.yahoo["AAPL"] = {
        "splits": [(pd.Timestamp("2022-01-12"), 4, 1), (pd.Timestamp("2022-03-15"), 3, 2)],
        "dividends": [(pd.Timestamp("2022-01-10"), 0.88), (pd.Timestamp("2022-03-20"), 1.0)],
    }
    (page,) = yahoo.pages(Ask(("AAPL",), *JANUARY))
    want = [row for row in made_bars("AAPL", 100.0) if "2022-01-03" <= f"{row['session']:%Y-%m-%d}" <= "2022-01-31"]
    for name, key in (("open", "o"), ("high", "h"), ("low", "l"), ("close", "c"), ("volume", "v")):
        assert list(page.bars[name]) == [row[key] for row in want]
    assert list(page.bars["session"]) == [row["session"] for row in want]
    found = {(f"{r.session:%m-%d}", r.kind): r.value for r in page.actions.itertuples()}
    assert found == {("01-12", "split"): 4.0, ("01-10", "dividend"): 0.88}


def test_a_class_of_shares_is_spelt_yahoos_way_and_comes_back_in_ours(yahoo, vendors):
    (page,) = yahoo.pages(Ask(("BRK.B",), *JANUARY))
    assert set(page.bars["symbol"]) == {"BRK.B"} and page.complete == ("BRK.B",)
    assert vendors.requests[-1][0].endswith("/BRK-B")


def test_unknown_quiet_and_odd_symbols_do_not_stop_the_others(yahoo, vendors):
    vendors.bars["YOUNG"] = [row for row in made_bars("YOUNG", 9.0) if row["session"] > pd.Timestamp("2022-03-30")]
    vendors.bars["GONE"] = [row for row in made_bars("GONE", 9.0) if row["session"] < pd.Timestamp("2021-12-20")]
    pages = list(yahoo.pages(Ask(("NOSUCH", "../etc", "YOUNG", "GONE", "KO"), *JANUARY)))
    assert [page.unknown for page in pages] == [("NOSUCH",), ("../etc",), (), (), ()]
    assert [page.complete for page in pages] == [(), (), ("YOUNG",), ("GONE",), ("KO",)]
    assert [len(page.bars) for page in pages] == [0, 0, 0, 0, 20]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"c": None}, "unreadable"),
        ({"c": float("nan")}, "unreadable"),
        ({"o": float("inf")}, "unreadable"),
        ({"c": "12.5"}, "unreadable"),
        ({"o": None, "h": None, "l": None, "c": None}, "missing"),
        ({"stamp": opening(pd.Timestamp("2022-01-05")) - 6 * 3600}, "clock"),
        ({"stamp": opening(pd.Timestamp("2031-01-03"))}, "unfinished"),
        ({"stamp": "soon"}, "undated"),
    ],
)
def test_a_damaged_bar_is_listed_and_the_rest_goes_on(yahoo, vendors, change, rule):
    next(row for row in vendors.bars["KO"] if row["session"] == pd.Timestamp("2022-01-05")).update(change)
    (page,) = yahoo.pages(Ask(("KO",), *JANUARY))
    assert (len(page.bars), list(page.damaged["rule"]), list(page.damaged["symbol"])) == (19, [rule], ["KO"])
    assert page.damaged["session"].between(*SPAN[:2]).all()


def test_a_volume_that_is_not_there_stays_unknown(yahoo, vendors):
    for row in vendors.bars["KO"]:
        row["v"] = None
    (page,) = yahoo.pages(Ask(("KO",), *JANUARY))
    assert page.bars["volume"].isna().all() and len(page.bars) == 20


def test_prices_before_a_split_that_cannot_be_read_are_not_believed(yahoo, vendors):
    day = opening(pd.Timestamp("2022-01-18"))
    vendors.yahoo["KO"] = {"events": {"splits": {"1": {"date": day, "numerator": 2, "denominator": 0}}}}
    (page,) = yahoo.pages(Ask(("KO",), *JANUARY))
    assert page.bars["session"].min() == pd.Timestamp("2022-01-18")
    assert (
        page.damaged["rule"].value_counts().to_dict() == {"split-doubtful": 10, "unreadable": 1} and page.complete == ()
    )


def test_a_split_that_yahoo_has_listed_and_not_worked_in_spoils_no_history(yahoo, vendors):
    split = pd.Timestamp("2022-01-18")
    for row in vendors.bars["KO"]:
        row |= {name: row[name] / 2 for name in "ohlc"} if row["session"] >= split else {}
    vendors.yahoo["KO"] = {"splits": [(split, 2, 1)], "worked_in": []}
    (page,) = yahoo.pages(Ask(("KO",), *JANUARY))
    assert (
        page.bars["session"].min() == split and page.complete == () and set(page.damaged["rule"]) == {"split-doubtful"}
    )
    vendors.yahoo["KO"].pop("worked_in")  # the next day
    (page,) = yahoo.pages(Ask(("KO",), *JANUARY))
    assert len(page.bars) == 20 and page.complete == ("KO",) and page.damaged.empty
    assert list(page.bars["close"][:2]) == [50.22, 50.23]


@pytest.mark.parametrize(
    ("meta", "rule"),
    [
        ({"currency": "GBp"}, "currency"),
        ({"symbol": "PEP"}, "not-asked"),
        ({"exchangeTimezoneName": "Mars"}, "unreadable"),
    ],
)
def test_an_answer_about_something_else_is_listed(yahoo, vendors, meta, rule):
    vendors.yahoo["KO"] = {"meta": meta}
    (page,) = yahoo.pages(Ask(("KO",), *JANUARY))
    assert list(page.damaged["rule"]) == [rule] and page.bars.empty and page.complete == ()
    assert page.unknown == (() if rule == "unreadable" else ("KO",))


def test_todays_half_bar_is_not_handed_out(vendors):
    during = datetime(2022, 3, 30, 19, tzinfo=UTC)  # 15:00 in New York
    vendors.bars["KO"] = vendors.bars["KO"][:-1]  # the 31st is yet to come
    (page,) = YahooBars(vendors.url, clock=lambda: during).pages(Ask(("KO",), date(2022, 3, 28), date(2022, 4, 29)))
    assert page.bars["session"].max() == pd.Timestamp("2022-03-29") and page.complete == () and page.damaged.empty


@pytest.mark.parametrize("fault", FAULTS)
def test_every_failure_is_one_line_that_says_whether_to_ask_again(vendors, fault):
    yahoo = YahooBars(vendors.url, timeout_seconds=patience(fault), clock=lambda: NOW)
    vendors.fail(fault, fault, on="/chart/")  # yfinance asks a second time with another cookie
    began = time.monotonic()
    with pytest.raises(SourceError) as caught:
        list(yahoo.pages(Ask(("KO",), *JANUARY)))
    assert time.monotonic() - began < 30
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 260
    assert caught.value.again == (fault not in ("401", "403", "404", "422", "302"))


def test_the_wait_that_was_asked_for_is_handed_on(yahoo, vendors):
    vendors.wait = {"Retry-After": "21"}
    vendors.fail("429", "429", on="/chart/")
    with pytest.raises(SourceError) as caught:
        list(yahoo.pages(Ask(("KO",), *JANUARY)))
    assert caught.value.again and caught.value.wait_seconds == 21


def test_nobody_listens():
    with pytest.raises(SourceError, match="can't be reached") as caught:
        list(YahooBars("http://127.0.0.1:9", timeout_seconds=1, clock=lambda: NOW).pages(Ask(("KO",), *JANUARY)))
    assert caught.value.again


def test_all_symbols_cannot_be_asked_for(yahoo):
    with pytest.raises(DataError, match="name them"):
        next(yahoo.pages(Ask(())))


splits = st.lists(
    st.tuples(st.dates(date(2000, 1, 1), date(2020, 1, 1)).map(pd.Timestamp), st.sampled_from([2.0, 0.1, 1.5])),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dates(date(1999, 1, 1), date(2021, 1, 1)).map(pd.Timestamp), max_size=6), splits)
def test_unadjustment_is_the_product_of_later_splits(days, splits):
    got = unadjustment(pd.DatetimeIndex(days), splits)
    want = [np.prod([ratio for day, ratio in splits if day > session] or [1.0]) for session in days]
    assert np.allclose(got, want, rtol=1e-12)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["KO", "USD", "America/New_York"]),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=6), inside, max_size=4),
    max_leaves=10,
)
numbers = st.lists(
    st.none() | st.floats() | st.integers() | st.sampled_from([1641220200, 50.5]) | json_values, min_size=2, max_size=2
)
quotes = st.fixed_dictionaries({name: numbers | json_values for name in ("open", "high", "low", "close", "volume")})
event = st.fixed_dictionaries(
    {name: st.sampled_from([1641220200, 4, 0]) | json_values for name in ("date", "numerator", "denominator", "amount")}
)
events = st.dictionaries(
    st.sampled_from(["splits", "dividends", "capitalGains"]),
    st.dictionaries(st.text(max_size=3), event | json_values, max_size=2) | json_values,
)
meta = st.fixed_dictionaries(
    {
        "symbol": st.just("KO") | json_values,
        "currency": st.just("USD") | json_values,
        "exchangeTimezoneName": st.just("America/New_York") | json_values,
    }
)
results = st.fixed_dictionaries({
    "meta": meta, "timestamp": st.just([1641220200, 1641306600]) | numbers | json_values, "events": events | json_values,
    "indicators": st.fixed_dictionaries({"quote": st.lists(quotes, max_size=2) | json_values}, optional={"adjclose": json_values}) | json_values,
})  # fmt: skip
charts = st.fixed_dictionaries(
    {
        "chart": st.fixed_dictionaries(
            {"result": st.lists(results | json_values, max_size=2), "error": st.none() | json_values}
        )
    }
)


@settings(max_examples=80, deadline=None)
@given(charts | json_values)
def test_whatever_comes_is_bars_damage_or_one_error(payload):
    try:
        page = read_chart(payload, "KO", *SPAN)
    except SourceError:
        return
    assert page.bars["session"].between(*SPAN[:2]).all() and page.bars["close"].notna().all()
    assert not np.isinf(page.bars[list(BAR_COLUMNS[2:])].to_numpy(float)).any()
    assert (page.actions["value"] > 0).all() and np.isfinite(page.actions["value"]).all()
    assert page.damaged["session"].notna().all()
