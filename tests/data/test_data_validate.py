"Every rule catches what it names and nothing real; every cell that is not usable is listed."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.data.sample import closes
from mlt_lib.data.validate import SPIKE, fill_gaps, require_coverage, validate
from mlt_lib.errors import DataError
from mlt_lib.market.calendar import sessions

DAYS = sessions("2022-11-01", "2022-12-28").rename("session")


def flat(*symbols, days=DAYS):
    "A quiet table: every price 100."
    return pd.DataFrame(100.0, days, pd.Index(symbols or ["A", "B"], name="symbol"))


def listed(found):
    "The quarantine as (day, symbol, rule)."
    table = found.quarantine
    return [
        (f"{s:%m-%d}", name, rule)
        for s, name, rule in zip(table["session"], table["symbol"], table["rule"], strict=True)
    ]


def test_the_sample_passes_whole_and_unchanged():
    prices = closes()
    found = validate(prices)
    pd.testing.assert_frame_equal(found.prices, prices, check_freq=False)
    assert found.quarantine.empty and found.notes == () and found.share == 1.0 and found.enough
    assert require_coverage(found) is found


@pytest.mark.parametrize("last", ["1990-06-29", "1998-12-31", "2008-11-28", "2020-03-23"])
def test_no_real_price_is_suspect_wherever_the_data_end(last):
    assert validate(closes().loc[:last]).quarantine.empty


@pytest.mark.parametrize(
    ("value", "rule"),
    [(0.0, "not-positive"), (-5.0, "not-positive"), (np.inf, "not-finite"), (-np.inf, "not-finite"), (np.nan, "missing"),
     (1000.0, "spike"), (10.0, "spike"), (100 * SPIKE, "spike"), (100 / SPIKE * 0.999, "spike")],
)  # fmt: skip
def test_a_cell_that_breaks_a_rule_is_emptied_and_listed(value, rule):
    prices = flat()
    prices.iloc[5, 1] = value
    found = validate(prices)
    assert listed(found) == [(f"{DAYS[5]:%m-%d}", "B", rule)]
    assert np.isnan(found.prices.iloc[5, 1]) and found.prices.notna().to_numpy().sum() == prices.size - 1
    np.testing.assert_equal(found.quarantine["value"].iloc[0], value)


def test_a_jump_that_stays_is_real():
    prices = flat()
    prices.iloc[5:, 0] = 1000.0
    assert validate(prices).quarantine.empty


def test_a_jump_below_the_threshold_is_real():
    prices = flat()
    prices.iloc[5, 0] = 100 * SPIKE * 0.999
    prices.iloc[9, 0] = 100 / SPIKE * 1.001
    assert validate(prices).quarantine.empty


def test_a_spike_beside_a_gap_is_still_seen():
    prices = flat()
    prices.iloc[4, 0], prices.iloc[5, 0], prices.iloc[6, 0] = np.nan, 1000.0, -1.0
    assert [rule for *_, rule in listed(validate(prices))] == ["missing", "spike", "not-positive"]


def test_a_jump_on_the_last_session_waits_to_be_confirmed():
    prices = flat()
    prices.iloc[-1, 0] = 1000.0
    assert listed(validate(prices)) == [("12-28", "A", "unconfirmed")]
    longer = pd.concat([prices, prices.iloc[[-1]].set_axis(pd.DatetimeIndex(["2022-12-29"]))])
    assert validate(longer).quarantine.empty


def test_a_row_on_a_closed_day_is_listed_cell_by_cell():
    extra = pd.DataFrame([[100.0, np.nan]], pd.DatetimeIndex(["2022-12-25"]), ["A", "B"])
    found = validate(pd.concat([flat(), extra]).sort_index())
    assert listed(found) == [("12-25", "A", "not-a-session")] and len(found.prices) == len(DAYS)


@pytest.mark.parametrize("day", ["1950-01-03", "2150-01-05", "2022-12-27 16:00"])
def test_a_row_outside_the_calendar_is_no_session(day):
    found = validate(pd.concat([flat(), flat(days=pd.DatetimeIndex([day]))]).sort_index())
    assert {rule for *_, rule in listed(found)} == {"not-a-session"} and found.prices.shape == (len(DAYS), 2)


def test_rows_that_contradict_each_other_are_both_set_aside():
    again = flat(days=DAYS[[3]])
    again["B"] = 101.0
    found = validate(pd.concat([flat(), again]).sort_index())
    assert [rule for *_, rule in listed(found)] == ["conflict"] * 4
    assert sorted(found.quarantine["value"]) == [100.0, 100.0, 100.0, 101.0]
    assert found.prices.iloc[3].isna().all()


def test_a_price_against_none_is_a_contradiction_too():
    again = flat(days=DAYS[[3]])
    again["B"] = np.nan
    assert {rule for *_, rule in listed(validate(pd.concat([flat(), again]).sort_index()))} >= {"conflict"}


def test_faithful_repeats_are_kept_once_and_noted():
    prices = flat()
    prices.iloc[3, 1] = np.nan
    found = validate(pd.concat([prices, prices.iloc[[3, 3, 7]]]).sort_index())
    assert found.notes == ("3 rows repeated another word for word and were left out",)
    assert listed(found) == [(f"{DAYS[3]:%m-%d}", "B", "missing")]


def test_disorder_is_sorted_and_noted():
    found = validate(flat()[::-1])
    assert found.prices.index.equals(DAYS) and found.notes == ("the rows were out of order and were sorted",)


def test_a_session_that_nobody_delivered_becomes_an_empty_row():
    found = validate(flat().drop(DAYS[[6]]))
    assert found.prices.index.equals(DAYS)
    assert listed(found) == [(f"{DAYS[6]:%m-%d}", name, "missing") for name in "AB"]


def test_coverage_counts_from_the_first_good_price_to_the_end_of_the_data():
    prices = flat("A", "B", "C")
    prices.iloc[:10, 0] = np.nan  # listed later: nothing was due
    prices.iloc[-4:, 1] = np.nan  # stopped early: still due
    prices["C"] = np.nan  # never there: due throughout
    found = validate(prices)
    count = len(DAYS)
    assert found.coverage.to_dict() == {"A": 1.0, "B": (count - 4) / count, "C": 0.0}
    assert found.share == pytest.approx((count - 10 + count - 4) / (count - 10 + count + count))
    assert not found.enough and len(found.quarantine) == 4 + count


def test_too_little_is_one_line_with_coverage_floor_and_the_worst():
    prices = flat()
    prices.iloc[:5, 1] = -1.0
    prices.iloc[0, 1] = 100.0
    with pytest.raises(DataError) as caught:
        require_coverage(validate(prices, coverage_share=0.99))
    said = str(caught.value)
    assert "only 95.0% of those due" in said and "coverage_share = 0.99" in said
    assert "worst: B 90.0%; held back: 4 not-positive." in said and "\n" not in said
    assert require_coverage(validate(prices), share=0.9)


@pytest.mark.parametrize("prices", [flat()[:0], flat(days=pd.DatetimeIndex(["2022-12-25"]))])
def test_no_prices_at_all_are_too_little(prices):
    found = validate(prices)
    assert found.share == 0.0 and not found.enough
    with pytest.raises(DataError, match="only 0.0%"):
        require_coverage(found, share=0.0)


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        (flat().reset_index(drop=True), "naive date"),
        (flat().tz_localize("UTC"), "naive date"),
        (flat("A", "A"), "A stands there twice"),
        (flat().astype(object).mask(flat() > 0, "x"), "not a number"),
    ],
)
def test_a_table_of_the_wrong_shape_is_refused(prices, words):
    with pytest.raises(DataError, match=words):
        validate(prices)


def test_the_verdict_is_shown_in_words_and_by_rule():
    prices = flat()
    prices.iloc[5, 0] = -1
    found = validate(prices[::-1])
    assert repr(found) == "40 sessions of 2 symbols; usable 98.75% of prices due, enough (floor 98.0%)"
    page = found._repr_html_()
    assert "not-positive" in page and "<td>1</td>" in page and "out of order" in page


def test_a_short_gap_is_carried_a_long_one_only_so_far():
    prices = flat("A", "B", "C")
    prices.iloc[3:6, 0] = np.nan
    prices.iloc[3:11, 1] = np.nan
    prices.iloc[:4, 2] = np.nan
    filled = fill_gaps(prices)
    assert filled.carried.to_dict() == {"A": 3, "B": 5, "C": 0}
    assert filled.prices["B"].isna().sum() == 3 and filled.prices["C"].isna().sum() == 4
    assert fill_gaps(prices, limit=0).prices.equals(prices)


def test_filling_is_causal():
    prices = closes().iloc[:60].mask(np.random.default_rng(1).random((60, 20)) < 0.2)
    whole = fill_gaps(prices).prices
    for cut in (1, 17, 59):
        pd.testing.assert_frame_equal(fill_gaps(prices.iloc[:cut]).prices, whole.iloc[:cut])


VALUE = st.sampled_from([100.0, 101.0, 55.0, 1000.0, 9.0, 0.0, -1.0, np.nan, np.inf, -np.inf, 1e300, 5e-324])
DATE = st.sampled_from([*DAYS[:8], pd.Timestamp("2022-11-05"), pd.Timestamp("2022-11-24"), pd.Timestamp("1970-01-01")])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(DATE, VALUE, VALUE), max_size=14))
def test_whatever_comes_in_only_prices_come_out_and_the_rest_is_listed(rows):
    index = pd.DatetimeIndex([day for day, *_ in rows], name="session")
    raw = pd.DataFrame([values for _, *values in rows], index, ["A", "B"], dtype=float)
    found = validate(raw)
    kept = found.prices.to_numpy()
    assert (np.isnan(kept) | (np.isfinite(kept) & (kept > 0))).all()
    assert 0.0 <= found.share <= 1.0
    cells = set(zip(found.quarantine["session"], found.quarantine["symbol"], strict=True))
    for day, *values in rows:  # each price that came in is kept or listed
        for symbol, value in zip("AB", values, strict=True):
            good = day in found.prices.index and found.prices.at[day, symbol] == value
            assert np.isnan(value) or good or (day, symbol) in cells
    empty = found.prices.isna() & found.prices.notna().cummax()  # each hole after a symbol's first price is listed
    assert {(s, c) for s, c in empty.stack()[lambda hole: hole].index} <= cells
    again = validate(found.prices)
    assert set(again.quarantine["rule"]) <= {"missing", "spike", "unconfirmed"}
