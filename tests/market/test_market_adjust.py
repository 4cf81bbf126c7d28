"Total-return units look forward only, adjusted prices end at the screen's price, and both agree with a plain loop."

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError
from mlt_lib.market.adjust import (
    actions_of,
    adjusted,
    adjustment_factors,
    reinvested_shares,
    split_factors,
    total_return_units,
)

COLUMNS = ["symbol", "session", "kind", "value"]
few = settings(max_examples=60, deadline=None)


def table(rows: list) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS).astype({"session": "datetime64[us]", "value": float})


@st.composite
def markets(draw):
    "Closes with holes, and actions on sessions, between them, before and after them."
    rows = draw(st.integers(2, 12))
    index = pd.bdate_range("2018-01-02", periods=rows).as_unit("us")
    price = st.one_of(st.floats(1, 500).map(lambda x: round(x, 2)), st.just(np.nan))
    raw = pd.DataFrame({s: draw(st.lists(price, min_size=rows, max_size=rows)) for s in ("AAA", "BBB")}, index=index)
    day = st.integers(-2, rows + 5).map(lambda n: index[0] + pd.Timedelta(days=n))
    split = st.tuples(st.just("split"), st.sampled_from([0.1, 0.5, 1.5, 2.0, 7.0]))
    dividend = st.tuples(st.just("dividend"), st.floats(0.01, 20).map(lambda x: round(x, 2)))
    one = st.tuples(st.sampled_from(["AAA", "BBB", "ZZZ"]), day, st.one_of(split, dividend))
    return raw, table([[s, d, *e] for s, d, e in draw(st.lists(one, max_size=8))])


def by_hand(raw: pd.Series, actions: pd.DataFrame) -> pd.Series:
    "Shares held by somebody who starts with one, day by day; dividends wait for the next close there is."
    held, cash, out, days = None, 0.0, [], list(raw.index)
    for i, (day, price) in enumerate(raw.items()):
        after = days[i - 1] if i else pd.Timestamp.min
        due = actions[(actions["session"] > after) & (actions["session"] <= day)]
        if held is not None:  # what is paid on a day is paid on the shares held before that day's split
            cash += held * due.loc[due["kind"] == "dividend", "value"].sum()
            held *= due.loc[due["kind"] == "split", "value"].prod()
        if np.isnan(price):
            out.append(np.nan)
            continue
        held = 1.0 if held is None else held + cash / price
        cash = 0.0
        out.append(held)
    return pd.Series(out, raw.index)


@few
@given(markets())
def test_a_plain_loop_agrees(market):
    raw, actions = market
    ours = reinvested_shares(raw, actions)
    for symbol in raw:
        theirs = by_hand(raw[symbol], actions[actions["symbol"] == symbol])
        pd.testing.assert_series_equal(ours[symbol], theirs, check_names=False, rtol=1e-9)


@few
@given(markets(), st.data())
def test_what_happens_later_never_restates_a_unit(market, data):
    raw, actions = market
    cut = data.draw(st.integers(1, len(raw)))
    early = actions[actions["session"] <= raw.index[cut - 1]]
    whole, part = total_return_units(raw, actions), total_return_units(raw.iloc[:cut], early)
    assert np.array_equal(whole.iloc[:cut].to_numpy(), part.to_numpy(), equal_nan=True)


@few
@given(markets(), st.data())
def test_adjusted_prices_end_at_the_raw_close_and_know_nothing_later(market, data):
    raw, actions = market
    day = raw.index[data.draw(st.integers(0, len(raw) - 1))]
    seen = adjusted(raw, actions, as_of=day)
    early = adjusted(raw[raw.index <= day], actions[actions["session"] <= day])
    pd.testing.assert_frame_equal(seen, early)
    for symbol in raw:
        last = raw.loc[:day, symbol].last_valid_index()
        assert last is None or seen.loc[last, symbol] == raw.loc[last, symbol]


@few
@given(markets())
def test_both_views_have_the_same_returns(market):
    raw, actions = market
    units, back = total_return_units(raw, actions), adjusted(raw, actions)
    pd.testing.assert_frame_equal(units / units.ffill().shift(), back / back.ffill().shift(), rtol=1e-9)


@few
@given(markets())
def test_without_actions_raw_stays_raw_to_the_bit(market):
    raw, _ = market
    nothing = table([])
    assert np.array_equal(total_return_units(raw, nothing).to_numpy(), raw.to_numpy(), equal_nan=True)
    assert np.array_equal(adjusted(raw, nothing).to_numpy(), raw.to_numpy(), equal_nan=True)


def test_the_return_is_the_one_of_the_definition():
    raw = pd.DataFrame({"A": [100.0, 26.0]}, index=pd.DatetimeIndex(["2018-01-02", "2018-01-03"]))
    acts = table([["A", "2018-01-03", "split", 4.0], ["A", "2018-01-03", "dividend", 1.0]])
    units = total_return_units(raw, acts)["A"]
    assert units.iloc[1] / units.iloc[0] - 1 == pytest.approx((26 * 4 + 1) / 100 - 1)


def test_split_factors_bring_prices_to_the_shares_of_the_last_session():
    index = pd.bdate_range("2018-01-02", periods=4)
    acts = table([["A", index[1], "split", 2.0], ["A", index[3], "split", 0.1], ["A", index[2], "dividend", 3.0]])
    assert split_factors(acts, index)["A"].tolist() == pytest.approx([1 / 0.2, 1 / 0.1, 1 / 0.1, 1.0])
    assert list(split_factors(acts, index, pd.Index(["A", "B"]))["B"]) == [1.0] * 4


def test_factors_carry_over_a_missing_bar_for_the_other_fields():
    index = pd.bdate_range("2018-01-02", periods=3)
    raw = pd.DataFrame({"A": [10.0, np.nan, 5.0]}, index=index)
    assert adjustment_factors(raw, table([["A", index[1], "split", 2.0]]))["A"].tolist() == [0.5, 0.5, 1.0]


@pytest.mark.parametrize(
    "row", [["split", 0.0], ["split", -2.0], ["dividend", np.inf], ["dividend", np.nan], ["spin", 1.0]]
)
def test_an_action_that_would_poison_prices_is_named(row):
    raw = pd.DataFrame({"A": [10.0]}, index=pd.DatetimeIndex(["2018-01-02"]))
    with pytest.raises(DataError, match="actions: A on 2018-01-02"):
        total_return_units(raw, table([["A", "2018-01-02", *row]]))


def test_a_missing_column_is_named():
    raw = pd.DataFrame({"A": [10.0]}, index=pd.DatetimeIndex(["2018-01-02"]))
    with pytest.raises(DataError, match="column kind is missing"):
        adjusted(raw, table([]).drop(columns="kind"))


def test_actions_of_takes_what_happened_and_nothing_else():
    bars = pd.DataFrame({"symbol": "A", "session": pd.bdate_range("2018-01-02", periods=3), "split": [1, 2, np.nan]})
    found = actions_of(bars.assign(dividend=[0.0, 0.5, 0.0]))
    assert found[["kind", "value"]].to_numpy().tolist() == [["dividend", 0.5], ["split", 2.0]]
    assert actions_of(bars[["symbol", "session"]]).empty


def test_a_source_that_adjusts_by_itself_agrees():
    path = Path(os.environ.get("MLT_TEST_DATA", Path(__file__).parents[3] / "shared/data")) / "us_equity_daily.parquet"
    if not path.exists():
        pytest.skip("no shared data")
    names = ["AAPL", "MSFT", "IBM", "KO", "XOM"]
    bars = pd.read_parquet(path, filters=[("ticker", "in", names)]).rename(
        columns={"ticker": "symbol", "date": "session"}
    )
    wide = bars.astype({"close": float, "adj_close": float}).pivot(index="session", columns="symbol")
    ours, theirs = adjusted(wide["close"], actions_of(bars)), wide["adj_close"]
    away = (ours / ours.shift()) / (theirs / theirs.shift()) - 1
    assert away.abs().max().max() < 1e-5
