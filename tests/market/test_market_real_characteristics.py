"On real stocks the views agree with a panel of characteristics that was computed elsewhere, by another code."

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlt_lib.market.residuals import idiosyncratic_volatility
from mlt_lib.market.views import PRICE_VIEWS, price_panels

SHARED = Path(os.environ.get("MLT_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")
NAMES = ["AAPL", "MSFT", "KO", "XOM", "JPM", "GE", "IBM", "PG", "WMT", "JNJ", "INTC", "HD", "T", "NFLX", "GS"]
SPLITLESS = "div_yield_12"  # the panel doesn't adjust old dividends for splits: compared on names without one
pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not here: set MLT_TEST_DATA")
ROOT = 252**0.5
# panel's column -> our view, what brings ours to the panel's units
BY_SESSION = {
    "vol_21": ("volatility_month", 1 / ROOT),
    "vol_252": ("volatility", 1 / ROOT),
    "beta_252": ("beta", 1),
    "downbeta_252": ("downside_beta", 1),
    "max_21": ("largest_return", 1),
    "min_21": ("smallest_return", 1),
    "high52": ("nearness_to_high", 1),
    "log_price": ("log_price", 1),
    "log_dolvol_21": ("dollar_volume", 1),
    "amihud_252": ("illiquidity", 1),
    "vol_trend": ("volume_trend", 1),
    "hl_range_21": ("high_low_range", 1),
    SPLITLESS: ("dividend_yield", 1),
}
BY_MONTH = {  # the panel counts calendar months, we count sessions
    "mom_12_2": "momentum_12_1",
    "mom_6_2": "momentum_6_1",
    "mom_12_7": "momentum_12_7",
    "ltrev_36_13": "long_term_reversal",
    "chmom_6": "momentum_change",
    "season_5y": "same_month",
    "skew_252": "skewness",  # corrected for the window's length there
    "std_logvol_63": "volume_variability",  # of shares there, of dollars here
    "ivol_63": "idiosyncratic_volatility",
}
FLOOR = {"season_5y": 0.75, "std_logvol_63": 0.9}


@pytest.fixture(scope="module")
def market_data():
    bars = pd.read_parquet(SHARED / "us_equity_daily.parquet", filters=[("ticker", "in", NAMES)])
    fields = ["open", "high", "low", "close", "volume", "dividend", "split"]
    wide = {c: bars.pivot(index="date", columns="ticker", values=c).astype(float) for c in fields}
    growth = (wide["close"] * wide["split"] + wide["dividend"]) / wide["close"].shift(1)
    prices = growth.fillna(1.0).cumprod().where(wide["close"].notna())
    factors = pd.read_parquet(SHARED / "factors_daily.parquet").set_index("date").reindex(prices.index)
    panel = pd.read_parquet(SHARED / "char_panel_us_stocks_monthly.parquet", filters=[("ticker", "in", NAMES)])
    return price_panels(prices, **wide), factors, panel.set_index(["date", "ticker"])


@pytest.fixture(scope="module")
def panels(market_data):
    found, factors, _ = market_data
    excess = found["prices"] / found["prices"].shift(1) - 1
    excess = (1 + excess.sub(factors["rf"], axis=0)).fillna(1.0).cumprod().where(found["prices"].notna())
    return {**found, "market": factors["mkt_rf"]}, {**found, "prices": excess, "market": factors["mkt_rf"]}


def side_by_side(view, panels, market_data, column):
    ours = view(panels)
    last = ours.index.to_series().groupby(ours.index.to_period("M")).max()
    ours = ours.loc[last].set_axis(last.index.to_timestamp("M").normalize(), axis=0)
    pairs = pd.DataFrame({"ours": ours.stack(), "theirs": market_data[2][column].astype(float)}).dropna()
    assert len(pairs) > 1500
    return pairs


@pytest.mark.parametrize("column", BY_SESSION)
def test_agrees_in_every_cell(column, panels, market_data):
    name, scale = BY_SESSION[column]
    total, excess = panels
    pairs = side_by_side(PRICE_VIEWS[name], excess if "beta" in name else total, market_data, column)
    if column == SPLITLESS:
        split = (total["split"] != 1).any()
        pairs = pairs[~pairs.index.get_level_values(1).isin(split[split].index)]
    away = (pairs["ours"] * scale - pairs["theirs"]).abs()
    size = pairs["theirs"].abs().median()
    # the panel masks known bad days before computing, so that a few cells may differ
    assert (away <= 2e-5 * size + 2e-5 * pairs["theirs"].abs()).mean() > 0.99, away.describe()


@pytest.mark.parametrize("column", BY_MONTH)
def test_agrees_but_for_how_a_month_is_counted(column, panels, market_data):
    total, excess = panels
    name = BY_MONTH[column]
    pairs = side_by_side(PRICE_VIEWS[name], excess if name.startswith("idio") else total, market_data, column)
    assert pairs.rank().corr().iloc[0, 1] > FLOOR.get(column, 0.93)


def test_three_factors_leave_less_than_one(panels):
    factors = pd.read_parquet(SHARED / "factors_daily.parquet").set_index("date").reindex(panels[1]["prices"].index)
    one, three = (
        idiosyncratic_volatility(panels[1]["prices"], factors[columns], window=252)
        for columns in (["mkt_rf"], ["mkt_rf", "smb_ff3", "hml_ff3"])
    )
    days = one.index[1000::500]
    assert (three.loc[days] <= one.loc[days] * (250 / 248) ** 0.5 + 1e-12).all(axis=None)
    from statsmodels.api import OLS, add_constant

    returns = panels[1]["prices"]["KO"].pct_change(fill_method=None).iloc[-252:]
    fit = OLS(returns, add_constant(factors[["mkt_rf", "smb_ff3", "hml_ff3"]].iloc[-252:])).fit()
    assert np.isclose(three["KO"].iloc[-1], (fit.mse_resid * 252) ** 0.5, rtol=1e-9)
