"Accounts as they were known: never early, never mixed, and restated from the day of the restatement."

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError
from mlt_lib.market.accounting import (
    ACCOUNTING,
    ITEMS,
    accounting_characteristics,
    accounting_facts,
    growth,
    known_accounts,
    market_equity,
    over,
)
from mlt_lib.market.calendar import session_closes, sessions
from mlt_lib.market.views import ACCOUNTING_VIEWS

SHARED = Path(os.environ.get("MLT_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")
DAYS = sessions("2014-01-02", "2018-12-31")[::60]
filed = st.tuples(st.integers(2013, 2017), st.integers(30, 700), st.floats(1, 100))


def table(rows):
    frame = pd.DataFrame(rows, columns=["year", "late", "assets"])
    period = pd.to_datetime(frame["year"].astype(str) + "-12-31")
    return pd.DataFrame(
        {
            "symbol": "AAA",
            "period_end": period,
            "filed": period + pd.to_timedelta(frame["late"], unit="D"),
            "assets": frame["assets"],
        }
    )


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(filed, min_size=1, max_size=8, unique_by=lambda r: r[:2]))
def test_equals_a_search_through_all_filings(rows):
    facts = accounting_facts(table(rows), ["assets"])
    found = known_accounts(facts, DAYS, ["AAA"], ["assets"], days=900)
    for n, moment in enumerate(session_closes(DAYS)):
        fit = facts[facts["known_time"] <= moment].sort_values(["period_end", "known_time"])
        value = before = np.nan
        if len(fit) and (moment - fit["event_time"].iloc[-1]).days < 900:
            period = fit["period_end"].iloc[-1]
            value = fit["value"].iloc[-1]
            year_before = fit[fit["period_end"].dt.year == period.year - 1]["value"]
            before = year_before.iloc[-1] if len(year_before) else np.nan
        np.testing.assert_array_equal([found["assets"].iloc[n, 0], found["assets_before"].iloc[n, 0]], [value, before])


@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(filed, min_size=1, max_size=6, unique_by=lambda r: r[:2]),
    more=st.lists(filed, max_size=4),
    cut=st.integers(5, 20),
)
def test_later_filings_change_no_earlier_day(rows, more, cut):
    facts = accounting_facts(table(rows), ["assets"])
    late = accounting_facts(table(more), ["assets"])
    late["known_time"] = late["known_time"].clip(lower=session_closes(DAYS[cut - 1 : cut])[0] + pd.Timedelta("1s"))
    both = pd.concat([facts, late], ignore_index=True)
    before, after = (known_accounts(f, DAYS[:cut], ["AAA"], ["assets"]) for f in (facts, both))
    for name in before:
        np.testing.assert_array_equal(before[name].to_numpy(), after[name].to_numpy())


def test_without_a_filing_date_four_months_pass():
    one = table([(2014, 60, 5.0)]).drop(columns="filed")
    days = pd.DatetimeIndex(["2015-04-30", "2015-05-01"])
    found = known_accounts(accounting_facts(one, ["assets"]), days, ["AAA"], ["assets"])["assets"]["AAA"]
    assert found.isna().tolist() == [True, False]


def test_no_ratio_mixes_two_years():
    rows = table([(2014, 60, 5.0), (2015, 60, 7.0)]).assign(income=[1.0, np.nan])
    facts = accounting_facts(rows, ["assets", "income"])
    found = known_accounts(facts, pd.DatetimeIndex(["2016-06-01"]), ["AAA"], ["assets", "income"])
    assert (
        found["assets"].iloc[0, 0] == 7.0
        and np.isnan(found["income"].iloc[0, 0])
        and found["income_before"].iloc[0, 0] == 1.0
    )


def test_shares_are_carried_through_splits():
    days = sessions("2016-01-04", "2016-01-12")
    split = pd.DataFrame({"AAA": [1, 1, 2, 1, 1, 3, 1.0]}, index=days)
    close = pd.DataFrame({"AAA": [60, 60, 30, 30, 30, 10, 10.0]}, index=days)
    counted = pd.DataFrame({"AAA": pd.Series(pd.Timestamp("2016-01-05"), days)})
    worth = market_equity(close, close * 0 + 100, counted, split)["AAA"]
    assert worth.iloc[1:].tolist() == [6000.0] * 6
    missing = market_equity(close, close * np.nan, counted.mask(counted.notna()), split)
    assert missing.isna().all(axis=None)


def test_a_denominator_of_nothing_or_less_is_none():
    a, b = (pd.DataFrame({"AAA": values}, index=DAYS[:3]) for values in ([1.0, 1.0, 1.0], [2.0, 0.0, -1.0]))
    assert over(a, b)["AAA"].isna().tolist() == [False, True, True] and growth(a, b)["AAA"].iloc[0] == -0.5


def test_what_is_wrong_is_named():
    with pytest.raises(DataError, match="'cash' is missing"):
        accounting_facts(table([(2014, 60, 5.0)]), ["cash"])
    with pytest.raises(DataError, match="months = -1"):
        accounting_facts(table([(2014, 60, 5.0)]), ["assets"], months=-1)


def test_every_characteristic_is_a_view():
    assert ACCOUNTING_VIEWS.keys() == ACCOUNTING.keys() and all(v.paper for v in ACCOUNTING_VIEWS.values())
    assert accounting_characteristics({}) == {}


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not here: set MLT_TEST_DATA")
def test_agrees_with_a_panel_computed_elsewhere():
    theirs = {
        "gross_profitability": "gp_a", "return_on_assets": "roa", "return_on_equity": "roe", "leverage": "leverage",
        "cash_holdings": "cash_a", "research_intensity": "rd_a", "accruals": "accruals", "asset_growth": "asset_growth",
        "sales_growth": "rev_growth", "size": "log_me", "book_to_market": "bm", "earnings_to_price": "ep",
        "sales_to_price": "sp", "cash_flow_to_price": "cfp",
    }  # fmt: skip
    accounts = pd.read_parquet(SHARED / "us_fundamentals_annual.parquet")
    accounts = accounts.rename(columns={"ticker": "symbol", "period_ending": "period_end"})
    shares = "estimated_shares_outstanding"
    bars = pd.read_parquet(SHARED / "us_equity_daily.parquet", columns=["ticker", "date", "close", "split"])
    bars = bars[bars["date"] >= "2012-01-01"]
    close, split = (bars.pivot(index="date", columns="ticker", values=c).astype(float) for c in ("close", "split"))
    months = pd.DatetimeIndex(close.index.to_series().groupby(close.index.to_period("M")).max().loc["2014":"2016"])
    panels = known_accounts(accounting_facts(accounts, [*ITEMS, shares]), months, list(close), [*ITEMS, shares])
    panels["market_equity"] = market_equity(close.loc[months], panels[shares], panels["period_end"], split.fillna(1.0))
    found = accounting_characteristics(panels)
    panel = pd.read_parquet(
        SHARED / "char_panel_us_stocks_monthly.parquet", columns=["date", "ticker", *theirs.values()]
    )
    panel["date"] = panel["date"].dt.to_period("M")
    panel = panel.set_index(["date", "ticker"])
    for name, column in theirs.items():
        ours = found[name].set_axis(months.to_period("M"), axis=0).stack()
        pair = pd.concat([ours, panel[column].astype(float)], axis=1, join="inner").dropna()
        away = (pair.iloc[:, 0] - pair.iloc[:, 1]).abs() <= 1e-4 * (1 + pair.iloc[:, 1].abs())
        # a month may differ: there the day counts as known, here the day after
        assert len(pair) > 5000 and away.mean() > 0.93, (name, len(pair), away.mean())
