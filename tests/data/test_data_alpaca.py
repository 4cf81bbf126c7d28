"Alpaca's bars and actions through alpaca-py against a server that pages, refuses, breaks off and lies."

import time
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from fixture_server import FAULTS, KEY, SECRET, made_bars, patience, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from mlt_lib.data.alpaca import AlpacaBars
from mlt_lib.data.alpaca_answers import read_actions, read_bars
from mlt_lib.data.answers import combined
from mlt_lib.data.source import BAR_COLUMNS, Ask
from mlt_lib.errors import DataError, SourceError

NOW = datetime(2022, 4, 10, tzinfo=UTC)
NEWEST = pd.Timestamp("2022-04-08")
JANUARY = (date(2022, 1, 3), date(2022, 1, 31))


@pytest.fixture
def vendors():
    with serving() as vendors:
        yield vendors


@pytest.fixture
def alpaca(vendors):
    return AlpacaBars(SecretStr(KEY), SecretStr(SECRET), vendors.url, timeout_seconds=20, clock=lambda: NOW)


def gathered(pages):
    pages = list(pages)
    bars = pd.concat([page.bars for page in pages], ignore_index=True)
    complete = tuple(symbol for page in pages for symbol in page.complete)
    unknown = tuple(symbol for page in pages for symbol in page.unknown)
    damaged = pd.concat([page.damaged for page in pages], ignore_index=True)
    return bars, damaged, complete, unknown


def test_bars_arrive_on_their_sessions_in_winter_and_summer(alpaca, vendors):
    bars, damaged, complete, unknown = gathered(
        alpaca.pages(Ask(("AAPL", "BRK.B"), date(2022, 3, 1), date(2022, 3, 31)))
    )
    want = [row for row in made_bars("BRK.B", 300.0) if row["session"] >= pd.Timestamp("2022-03-01")]
    got = bars[bars["symbol"] == "BRK.B"]
    assert list(got.columns) == list(BAR_COLUMNS)
    assert list(got["session"]) == [row["session"] for row in want]
    assert list(got["close"]) == [row["c"] for row in want]
    assert list(got["volume"]) == [row["v"] for row in want]
    assert len(damaged) == 0 and sorted(complete) == ["AAPL", "BRK.B"] and unknown == ()
    (query,) = vendors.asked("/stocks/bars")
    assert (query["adjustment"], query["feed"], query["timeframe"]) == ("raw", "iex", "1Day")


def test_every_page_is_one_request_and_only_the_last_completes(alpaca, vendors):
    vendors.page = 17
    counts, complete = [], []
    for page in alpaca.pages(Ask(("AAPL", "KO"), *JANUARY)):
        counts.append(len(vendors.requests))
        complete.append(page.complete)
    assert counts == list(range(1, len(counts) + 1))
    assert complete == [()] * (len(complete) - 1) + [("AAPL", "KO")]
    assert [query.get("page_token") for query in vendors.asked("/stocks/bars")] == [None, "17", "34"]


def test_paging_changes_nothing(alpaca, vendors):
    whole = gathered(alpaca.pages(Ask(("AAPL", "KO", "BRK.B"), *JANUARY)))[0]
    vendors.page = 7
    paged = gathered(alpaca.pages(Ask(("AAPL", "KO", "BRK.B"), *JANUARY)))[0]
    pd.testing.assert_frame_equal(whole, paged)


def test_a_long_span_goes_in_batches_that_fit_a_page(vendors, alpaca):
    symbols = tuple(f"S{chr(65 + i)}" for i in range(6))
    vendors.bars |= {symbol: made_bars(symbol, 10.0) for symbol in symbols}
    list(alpaca.pages(Ask(symbols, date(2016, 1, 4), date(2022, 3, 31))))
    asked = [query["symbols"].split(",") for query in vendors.asked("/stocks/bars")]
    assert sum(asked, []) == list(symbols) and max(map(len, asked)) == 10_000 // 1571


def test_actions_stand_beside_the_bars(alpaca, vendors):
    vendors.actions = {
        "forward_splits": [{"id": "a", "symbol": "AAPL", "new_rate": 4, "old_rate": 1, "ex_date": "2022-01-10"}],
        "reverse_splits": [{"id": "b", "symbol": "KO", "new_rate": 1, "old_rate": 8, "ex_date": "2022-01-11"}],
        "cash_dividends": [
            {"id": "c", "symbol": "KO", "rate": 0.44, "ex_date": "2022-01-12"},
            {"id": "d", "symbol": "KO", "rate": 1.56, "ex_date": "2022-01-12", "special": True},
        ],
        "stock_dividends": [{"id": "e", "symbol": "AAPL", "rate": 0.05, "ex_date": "2022-01-13"}],
        "spin_offs": [{"id": "f", "source_symbol": "KO", "new_symbol": "KON", "new_rate": 1, "ex_date": "2022-01-14"}],
    }
    vendors.page = 40  # two pages of bars, one of actions
    pages = list(alpaca.pages(Ask(("AAPL", "KO"), *JANUARY)))
    with_bars = [page for page in pages if len(page.bars)]
    assert len(with_bars) == 1 and len(pages) == 2
    found = {(r.symbol, f"{r.session:%m-%d}", r.kind): r.value for r in with_bars[0].actions.itertuples()}
    assert found == {
        ("AAPL", "01-10", "split"): 4.0,
        ("KO", "01-11", "split"): 0.125,
        ("KO", "01-12", "dividend"): 2.0,
        ("AAPL", "01-13", "split"): 1.05,
    }
    (other,) = [row for page in pages for row in page.damaged.itertuples()]
    assert (other.rule, other.symbol, other.session) == ("other-action", "KO", pd.Timestamp("2022-01-14"))


def test_an_action_repeated_on_two_pages_counts_once():
    row = {"id": "x", "symbol": "KO", "rate": 0.44, "ex_date": "2022-01-12"}
    found: dict = {}
    for _ in range(2):
        found |= read_actions({"corporate_actions": {"cash_dividends": [row]}}, ("KO",), NEWEST)[0]
    assert list(combined(found.values())["value"]) == [0.44]


def test_a_quiet_symbol_is_not_an_unknown_one(alpaca, vendors):
    vendors.bars["YOUNG"] = [row for row in made_bars("YOUNG", 10.0) if row["session"] > pd.Timestamp("2022-03-01")]
    *_, complete, unknown = gathered(alpaca.pages(Ask(("AAPL", "YOUNG", "NOSUCH"), *JANUARY)))
    assert (set(complete), unknown) == ({"AAPL", "YOUNG"}, ("NOSUCH",))


def test_a_symbol_that_alpaca_calls_invalid_does_not_stop_the_others(alpaca, vendors):
    vendors.invalid = {"BAD"}
    bars, _, complete, unknown = gathered(alpaca.pages(Ask(("AAPL", "BAD", "odd,one", "KO"), *JANUARY)))
    assert (
        set(bars["symbol"]) == {"AAPL", "KO"} and set(complete) == {"AAPL", "KO"} and set(unknown) == {"BAD", "odd,one"}
    )
    assert all("odd" not in query["symbols"] for query in vendors.asked("/stocks/bars"))


def test_what_is_not_over_is_neither_asked_for_nor_called_complete(vendors):
    during = datetime(2022, 3, 30, 19, tzinfo=UTC)  # 15:00 in New York
    alpaca = AlpacaBars(SecretStr(KEY), SecretStr(SECRET), vendors.url, clock=lambda: during)
    bars, _, complete, _ = gathered(alpaca.pages(Ask(("AAPL",), date(2022, 3, 28), date(2022, 4, 30))))
    assert bars["session"].max() == pd.Timestamp("2022-03-29") and complete == ()
    assert vendors.asked("/stocks/bars")[0]["end"] == "2022-03-29T17:00:00Z"
    assert list(alpaca.pages(Ask(("AAPL",), date(2022, 4, 1), date(2022, 4, 30)))) == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"c": None}, "unreadable"),
        ({"c": float("nan")}, "unreadable"),
        ({"h": float("inf")}, "unreadable"),
        ({"c": "12.5"}, "unreadable"),
        ({"v": True}, "unreadable"),
        ({"t": "2022-01-05T05:02:17Z"}, "clock"),
        ({"t": "2022-01-05T00:00:00Z"}, "clock"),
        ({"t": "2031-01-03T05:00:00Z"}, "unfinished"),
        ({"t": "5 January 2022"}, "undated"),
    ],
)
def test_a_damaged_bar_is_listed_and_the_rest_goes_on(alpaca, vendors, change, rule):
    row = next(row for row in vendors.bars["AAPL"] if row["session"] == pd.Timestamp("2022-01-05"))
    row |= change
    bars, damaged, complete, _ = gathered(alpaca.pages(Ask(("AAPL",), *JANUARY)))
    assert (len(bars), list(damaged["rule"]), list(damaged["symbol"])) == (19, [rule], ["AAPL"])
    assert pd.Timestamp("2022-01-05") not in set(bars["session"]) and complete == ("AAPL",)
    assert damaged["session"].notna().all()


def test_a_null_volume_stays_unknown(alpaca, vendors):
    for row in vendors.bars["AAPL"]:
        row["v"] = None
    bars, damaged, *_ = gathered(alpaca.pages(Ask(("AAPL",), *JANUARY)))
    assert bars["volume"].isna().all() and bars["close"].notna().all() and damaged.empty


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("path", ["/stocks/bars", "/corporate-actions"])
def test_every_failure_is_one_line_that_says_whether_to_ask_again(vendors, fault, path):
    alpaca = AlpacaBars(
        SecretStr(KEY), SecretStr(SECRET), vendors.url, timeout_seconds=patience(fault), clock=lambda: NOW
    )
    vendors.message = f"no, {KEY}: {SECRET}"
    vendors.fail(fault, on=path)
    began = time.monotonic()
    with pytest.raises(SourceError) as caught:
        list(alpaca.pages(Ask(("AAPL",), *JANUARY)))
    said = str(caught.value)
    assert time.monotonic() - began < 30
    assert "\n" not in said and len(said) < 260 and KEY not in said and SECRET not in said
    assert caught.value.again == (fault not in ("401", "403", "404", "422", "302"))
    assert len(vendors.asked(path)) == 1, "the source itself never asks twice"


def test_the_wait_that_was_asked_for_is_handed_on(alpaca, vendors):
    vendors.wait = {"X-RateLimit-Reset": str(time.time() + 20)}
    vendors.fail("429", on="/stocks/bars")
    with pytest.raises(SourceError) as caught:
        list(alpaca.pages(Ask(("AAPL",), *JANUARY)))
    assert caught.value.again and 15 < caught.value.wait_seconds <= 20


def test_a_wrong_key_names_the_variables_and_not_the_key(vendors):
    alpaca = AlpacaBars(SecretStr("PKWRONG"), SecretStr("wrong"), vendors.url, clock=lambda: NOW)
    with pytest.raises(SourceError, match="MLT_BROKER_KEY and MLT_BROKER_SECRET") as caught:
        list(alpaca.pages(Ask(("AAPL",), *JANUARY)))
    assert not caught.value.again and "PKWRONG" not in str(caught.value) + repr(alpaca)


def test_a_key_revoked_between_two_pages_leaves_the_first_page(alpaca, vendors):
    vendors.page = 10
    pages = alpaca.pages(Ask(("AAPL",), *JANUARY))
    next(pages)
    assert len(next(pages).bars) == 10
    vendors.fail("401")
    with pytest.raises(SourceError, match="refuses the key"):
        next(pages)


def test_pages_that_lead_in_a_circle_end(alpaca, monkeypatch):
    monkeypatch.setattr("fixture_server._cut", lambda rows, request, page: (rows[:3], "3"))
    with pytest.raises(SourceError, match="leads nowhere"):
        list(alpaca.pages(Ask(("AAPL",), *JANUARY)))


def test_a_plan_without_all_exchanges_is_told_which_setting_to_change(alpaca, vendors):
    vendors.message = "subscription does not permit querying recent SIP data"
    vendors.fail("403", on="/stocks/bars")
    with pytest.raises(SourceError, match="alpaca_feed = iex") as caught:
        list(alpaca.pages(Ask(("AAPL",), *JANUARY)))
    assert not caught.value.again


def test_a_yearly_answer_that_nobody_can_read_makes_no_symbol_unknown(alpaca, vendors):
    pages = alpaca.pages(Ask(("NOSUCH",), *JANUARY))
    next(pages), next(pages)
    vendors.fail("scalar", on="/stocks/bars")
    with pytest.raises(SourceError, match="can't be read"):
        next(pages)


def test_a_symbol_named_twice_is_asked_for_once(alpaca, vendors):
    bars, *_ = gathered(alpaca.pages(Ask(("AAPL", "AAPL"), date(1990, 1, 2), date(2022, 1, 31))))
    assert not bars.duplicated(["symbol", "session"]).any() and vendors.asked("/bars")[0]["symbols"] == "AAPL"


def test_nobody_listens():
    alpaca = AlpacaBars(SecretStr(KEY), SecretStr(SECRET), "http://127.0.0.1:9", clock=lambda: NOW)
    with pytest.raises(SourceError, match="can't be reached") as caught:
        list(alpaca.pages(Ask(("AAPL",), *JANUARY)))
    assert caught.value.again


def test_all_symbols_cannot_be_asked_for(alpaca):
    with pytest.raises(DataError, match="name them"):
        next(alpaca.pages(Ask(())))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["AAPL", "2022-01-03T05:00:00Z"]),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=6) | st.sampled_from("tohlcv"), inside, max_size=6),
    max_leaves=12,
)  # fmt: skip
stamps = st.sampled_from(
    ["2022-01-03T05:00:00Z", "2022-07-05T04:00:00Z", "0001-01-01T00:00:00Z", "2022-13-45T05:00:00Z"]
)
prices = st.floats() | st.integers() | json_values
rows = st.fixed_dictionaries({"t": stamps | json_values, "c": prices}, optional={k: prices for k in "ohlv"})
answers = st.fixed_dictionaries(
    {"bars": st.dictionaries(st.sampled_from(["AAPL", "KO", "ZZ"]), st.lists(rows | json_values) | json_values)}
)


@settings(max_examples=60, deadline=None)
@given(json_values | answers)
def test_whatever_comes_is_bars_damage_or_one_error(payload):
    try:
        page = read_bars(payload, ("AAPL", "KO"), NEWEST)
    except SourceError:
        return
    assert set(page.bars["symbol"]) <= {"AAPL", "KO"} and (page.bars["session"] <= NEWEST).all()
    assert page.bars["close"].notna().all() and not np.isinf(page.bars[list(BAR_COLUMNS[2:])].to_numpy(float)).any()
    assert page.damaged["session"].notna().all() and page.damaged["symbol"].notna().all()
    given_rows = sum(
        len(v) if isinstance(v, list) else v is not None for k, v in (payload.get("bars") or {}).items() if k != "ZZ"
    )
    listed = (page.damaged["rule"] != "not-asked").sum()
    assert len(page.bars) + listed == given_rows, "a row is kept or listed, never dropped"


kinds = ["forward_splits", "reverse_splits", "cash_dividends", "stock_dividends", "cash_mergers", "new_thing"]
action = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["AAPL", "ZZ"]) | json_values,
        "ex_date": st.sampled_from(["2022-01-03", "x"]) | json_values,
    },
    optional={name: prices for name in ("rate", "new_rate", "old_rate", "id")},
)
sets = st.fixed_dictionaries(
    {"corporate_actions": st.dictionaries(st.sampled_from(kinds), st.lists(action | json_values) | json_values)}
)


@settings(max_examples=60, deadline=None)
@given(json_values | sets)
def test_whatever_comes_is_actions_damage_or_one_error(payload):
    try:
        found, wrong = read_actions(payload, ("AAPL",), NEWEST)
    except SourceError:
        return
    actions = combined(found.values())
    assert (
        (actions["value"] > 0).all()
        and np.isfinite(actions["value"]).all()
        and set(actions["kind"]) <= {"split", "dividend"}
    )
    assert wrong["session"].notna().all() and actions["session"].notna().all()
