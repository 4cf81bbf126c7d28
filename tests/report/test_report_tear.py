"Pictures and numbers of returns: nothing lost in thinning, numbers as pyfolio's, impossible input named."

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError
from mlt_lib.report import tear
from mlt_lib.risk.drawdown import drawdown


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5000), st.integers(2, 500), st.integers(0, 99))
def test_thinning_keeps_ends_and_extremes(n, buckets, seed):
    series = pd.Series(np.random.default_rng(seed).normal(size=n).cumsum(), pd.bdate_range("1990-01-02", periods=n))
    thin = tear.thin(series, buckets)
    assert len(thin) <= max(2 * buckets + 2, 2)
    assert thin.index.is_monotonic_increasing and thin.index.is_unique
    assert thin.equals(series.loc[thin.index])
    for day in (series.index[0], series.index[-1], series.idxmin(), series.idxmax()):
        assert day in thin.index


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_labels_keep_their_order_and_distance(ends):
    placed = np.array(tear.spread_labels(ends, 0.1))[np.argsort(ends, kind="stable")]
    assert (np.diff(placed) >= 0.1 - 1e-9).all()


def test_labels_far_apart_stay_where_they_are():
    assert tear.spread_labels([0.9, 0.1]) == pytest.approx([0.9, 0.1])


def test_wealth_and_drawdown_says_its_numbers_in_words(read, streams):
    book, market = streams
    page = read(tear.wealth_and_drawdown(book, market, ("<desk>", "market")).data)
    alt = page.all("figure")[0]["aria-label"]
    assert f"<desk> {(1 + book).prod():.2f}, market {(1 + market).prod():.2f}." in alt
    assert f"worst {drawdown(book).min():.1%} on {drawdown(book).idxmin():%d %b %Y}" in alt
    assert f"<desk> {(1 + book).prod():.2f}×" in [t.strip() for tag, t in page.texts if tag == "text"]


def test_one_figure_two_panels_one_row_of_dates(read, streams):
    page = read(tear.wealth_and_drawdown(streams[0], size=(5, 3)).data)
    texts = [t.strip() for tag, t in page.texts if tag == "text"]
    assert len(page.all("svg")) == 1
    assert texts.count("2020") == 1
    assert any(t.endswith("×") for t in texts) and "0%" in texts


@pytest.mark.parametrize("growth", [0.0, 0.0001, 0.004])
def test_the_growth_scale_has_a_few_labels_at_any_growth(read, growth):
    days = pd.bdate_range("2018-01-02", periods=900)
    book = pd.Series(np.random.default_rng(1).normal(growth, 0.006, 900), days)
    page = read(tear.wealth_and_drawdown(book, size=(5, 3)).data)
    labels = [t.strip() for tag, t in page.texts if tag == "text" and re.fullmatch(r"[\d.]+×", t.strip())]
    assert 2 <= len(labels) <= 8


def test_thirty_years_weigh_little():
    rng = np.random.default_rng(5)
    days = pd.bdate_range("1992-01-02", periods=8000)
    book, market = (pd.Series(rng.normal(0.0004, 0.01, 8000), days) for _ in range(2))
    assert len(tear.wealth_and_drawdown(book, market).data) < 160_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, -2.0])
def test_returns_that_can_not_be_are_named_by_session(bad, streams):
    book = streams[0].copy()
    book.iloc[5] = bad
    with pytest.raises(DataError, match=f"desk: return of {book.index[5]:%Y-%m-%d} is {bad}"):
        tear.wealth_and_drawdown(book, names=("desk", "market"))


def test_too_few_returns_and_other_sessions_are_refused(streams):
    book, market = streams
    with pytest.raises(DataError, match="1 returns are too few"):
        tear.wealth_and_drawdown(book.iloc[:1])
    with pytest.raises(DataError, match="different sessions"):
        tear.wealth_and_drawdown(book, market.iloc[1:])
    with pytest.raises(DataError, match="different sessions"):
        tear.perf_stats(book, market.iloc[1:])


def test_bars_are_sorted_labelled_and_within_their_track(read):
    values = pd.Series({"A&B": 0.10, "<C>": -0.05, "D": 0.0, "E": 0.2})
    made = tear.bars(values, "Weights.")
    page = read(made.data)
    assert [t for tag, t in page.texts if tag == "span"] == [
        "E",
        "+20.0%",
        "A&B",
        "+10.0%",
        "D",
        "+0.0%",
        "<C>",
        "-5.0%",
    ]
    assert page.all("figure")[0]["aria-label"] == "Weights. E +20.0%, A&B +10.0%, D +0.0%, <C> -5.0%"
    for left, width in re.findall(r"left:([\d.]+)%;width:([\d.]+)%", made.data):
        assert float(left) >= 0 and float(left) + float(width) <= 100.02


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_no_bar_leaves_its_track(values):
    made = tear.bars(pd.Series(values), "x").data
    found = re.findall(r"left:([^%]+)%;width:([^%]+)%", made)
    assert len(found) == len(values)
    assert all(-0.01 <= float(a) <= 100.01 and float(a) + float(b) <= 100.02 for a, b in found)


def test_no_bars_and_missing_bars():
    assert "Weights. None." in tear.bars(pd.Series(dtype=float), "Weights.").data
    with pytest.raises(DataError, match="no value for B"):
        tear.bars(pd.Series({"A": 1.0, "B": np.nan}), "Weights.")


def test_numbers_are_pyfolio_s_and_each_has_its_meaning(streams):
    book, market = streams
    stats = tear.perf_stats(book, market)
    assert stats.columns.tolist() == ["book", "market", "meaning"]
    assert set(stats.index) == set(tear.MEANING)
    assert (stats["meaning"].str.len() > 10).all()
    assert stats.loc["Annual return", "book"] == pytest.approx((1 + book).prod() ** (252 / len(book)) - 1)
    assert stats.loc["Annual volatility", "market"] == pytest.approx(market.std() * 252**0.5)
    assert stats.loc["Max drawdown", "book"] == pytest.approx(drawdown(book).min())
    assert stats.loc["Daily value at risk", "book"] == pytest.approx(book.mean() - 2 * book.std(ddof=0), abs=1e-5)
    assert stats.loc["Beta", "book"] == pytest.approx(book.cov(market) / market.var())
    assert stats.loc["Omega ratio", "book"] == pytest.approx(book[book > 0].sum() / -book[book < 0].sum())
    assert stats.loc["Tail ratio", "book"] == pytest.approx(abs(book.quantile(0.95)) / abs(book.quantile(0.05)))
    assert stats.loc[["Alpha", "Beta"], "market"].isna().all()
    assert "market" not in tear.perf_stats(book).columns


def test_the_numbers_as_a_table(read, streams):
    page = read(tear.perf_table(tear.perf_stats(*streams), "a caption").data)
    texts = [t for tag, t in page.texts if tag in ("td", "th")]
    assert texts[:4] == ["number", "book", "market", "in plain words"]
    assert texts[texts.index("Beta") + 2] == "–"
    assert texts[texts.index("Annual return") + 1].endswith("%")
    assert not texts[texts.index("Sharpe ratio") + 1].endswith("%")


def test_model_and_real_measures_the_distance(read):
    days = pd.bdate_range("2022-12-01", periods=5)
    model = pd.Series([np.nan, 0.01, -0.01, 0.0, 0.02], days)
    equity = 1e6 * (1 + model.fillna(0)).cumprod()
    equity.iloc[-1] *= 0.999
    page = read(tear.model_and_real(equity, model, pd.Series([0.02, 0.01, np.nan, 0.0, 0.005], days)).data)
    alt = page.all("figure")[0]["aria-label"]
    assert "-10.0 basis points from the model" in alt and "5 sessions" in alt and alt.endswith("now 0.50%.")


def test_the_first_session_s_model_return_came_before_the_first_equity():
    days = pd.bdate_range("2022-12-01", periods=2)
    made = tear.model_and_real(
        pd.Series([100.0, 110.0], days), pd.Series([0.5, 0.1], days), pd.Series([0.0, 0.0], days)
    )
    assert "+0.0 basis points" in made.data


def test_one_session_is_said_not_drawn():
    day = pd.bdate_range("2022-12-01", periods=1)
    assert (
        "second session"
        in tear.model_and_real(pd.Series([1e6], day), pd.Series([0.0], day), pd.Series([0.0], day)).data
    )
