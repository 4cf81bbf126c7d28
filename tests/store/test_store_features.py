"Features: live equals training, nothing is seen before it was known, and a number has one code."

import datetime as dt
import itertools
import threading
from functools import partial

import numpy as np
import pandas as pd
import pytest
from bars_for_views import bars
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from mlt_lib.errors import DataError, StoreError
from mlt_lib.market.calendar import session_closes, sessions
from mlt_lib.market.characteristics import reversal
from mlt_lib.market.liquidity import log_price
from mlt_lib.market.views import PRICE_VIEWS, FeatureView, price_panels, tail
from mlt_lib.store.database import open_database
from mlt_lib.store.features import feature_rows, materialise, read_features

DAYS = sessions("2013-01-02", "2018-12-31")[-1300:]
WEEK = DAYS[-5:]
ZERO = dt.timedelta(0)
NUMBER = itertools.count()


def real_days(names=3):
    "Every panel, on sessions of the exchange."
    return {field: panel.set_axis(DAYS, axis=0) for field, panel in bars(len(DAYS), names).items()}


def itself(close):
    return close


ITSELF = FeatureView("itself", 1, ("close",), itself, 1, "none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def lite(folder):
    engine = open_database(f"sqlite:///{folder}/desk.db")
    yield engine
    engine.dispose()


def test_live_equals_training_on_every_view(engine):
    fields, views = real_days(), [*PRICE_VIEWS.values()]
    if engine.dialect.name != "sqlite":  # the views don't know where they are stored
        views = views[::7]
    whole, rows = price_panels(**fields), max(view.history for view in views)
    materialise(engine, views, whole, "whole", sessions=WEEK)
    for day in WEEK[::2]:  # live: a day at a time, from the last rows only
        upto = {name: panel.loc[:day] for name, panel in whole.items()}
        materialise(engine, views, tail(upto, rows), "live", since=day.date())
    asked = pd.MultiIndex.from_product([WEEK[::2], whole["prices"].columns], names=["date", "symbol"])
    training, live = (read_features(engine, views, asked, source) for source in ("whole", "live"))
    assert training.equals(live)  # to the bit
    assert training.notna().any().all()
    one = pd.concat([read_features(engine, views, asked[n : n + 1], "live") for n in range(0, len(asked), 5)])
    assert one.equals(training.iloc[::5])  # asked one by one, as live does
    for view in views:
        computed = view(whole).loc[WEEK[::2]].stack(future_stack=True)
        np.testing.assert_array_equal(training[view.name].to_numpy(), computed.to_numpy())


def test_units_that_are_anchored_anew_are_no_news(engine):
    fields = real_days()
    views = [PRICE_VIEWS[n] for n in ("momentum_12_1", "beta", "skewness", "volatility", "illiquidity", "range_spread")]
    materialise(engine, views, price_panels(**fields), "a", sessions=WEEK)
    fields["prices"] = fields["prices"] * 0.37  # the same returns
    again = materialise(engine, views, price_panels(**fields), "a", sessions=WEEK)
    assert again.rows == 0 and again.table["unchanged"].gt(0).all()


def test_storing_twice_writes_once_and_a_tail_adds_what_is_new(engine):
    panels, views = price_panels(**real_days()), [PRICE_VIEWS["reversal"], PRICE_VIEWS["dollar_volume"]]
    first = materialise(engine, views, {n: p.iloc[:-2] for n, p in panels.items()}, "a", since=DAYS[-10].date())
    assert first.table["new"].tolist() == [24, 24]
    second = materialise(engine, views, tail(panels, 30), "a")
    assert second.table["new"].tolist() == [6, 6] and second.table["unchanged"].tolist() == [21, 24]
    assert materialise(engine, views, tail(panels, 30), "a").rows == 0
    with engine.connect() as connection:
        twice = "SELECT count(*) FROM (SELECT 1 FROM features GROUP BY feature, version, symbol, session HAVING count(*) > 1) t"
        assert connection.scalar(text(twice)) == 0


def test_half_a_window_is_never_stored(engine):
    panels = price_panels(**real_days())
    view = PRICE_VIEWS["illiquidity"]  # it would give a number from nine tenths of its window
    assert materialise(engine, [view], tail(panels, 252), "a").rows == 0
    assert materialise(engine, [view], tail(panels, 253), "a").rows == 3


def test_a_correction_is_known_from_the_moment_it_is_learnt(engine):
    fields = real_days()
    close = fields["close"].loc[WEEK]
    materialise(engine, [ITSELF], {"close": close}, "a")
    between = pd.Timestamp.now("UTC")
    mended = close.copy()
    mended.iloc[1, 0] *= 2
    mended.iloc[2, 1] = np.nan
    told = materialise(engine, [ITSELF], {"close": mended}, "a").table.loc["itself"]
    assert (told["restated"], told["withdrawn"], told["new"], told["unchanged"]) == (1, 1, 0, 13)
    asked = pd.MultiIndex.from_product([WEEK, close.columns], names=["date", "symbol"])
    then = read_features(engine, [ITSELF], asked, "a")["itself"].unstack("symbol")
    np.testing.assert_array_equal(then.to_numpy(), close.to_numpy())
    rows = feature_rows(engine, [ITSELF], "a")
    late = rows[rows["known_time"] > rows["event_time"]]
    assert len(late) == 2 and (late["known_time"] == late["recorded_time"]).all() and late["value"].isna().sum() == 1
    now = pd.Timestamp.now("UTC")
    for moment, expected in ((between, close), (now, mended)):
        for n, day in enumerate(WEEK):
            cells = rows[(rows["session"] == day) & (rows["known_time"] <= moment)].groupby("symbol", observed=True)[
                "value"
            ]
            np.testing.assert_array_equal(cells.agg(lambda v: v.iloc[-1]).to_numpy(), expected.iloc[n].to_numpy())


@settings(max_examples=25, deadline=None)
@given(delay=st.integers(0, 72), hours=st.integers(-80, 80), n=st.integers(0, 4))
def test_a_value_answers_from_its_known_time_on(lite, delay, hours, n):
    close = real_days(1)["close"].loc[WEEK[n : n + 1]]
    source = f"delay {delay} {n}"
    materialise(lite, [ITSELF], {"close": close}, source, known_delay=dt.timedelta(hours=delay))
    moment = session_closes(WEEK[n : n + 1])[0] + pd.Timedelta(hours=hours)
    asked = pd.DataFrame({"symbol": ["S0"], "decision_time": [moment]})
    found = read_features(lite, [ITSELF], asked, source)["itself"].iloc[0]
    assert (found == close.iloc[0, 0]) if hours >= delay else np.isnan(found)


cells = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 1)), st.sampled_from([1.0, 2.0, np.nan]), max_size=4
)


@settings(max_examples=20, deadline=None)
@given(story=st.lists(cells, min_size=1, max_size=4))
def test_any_story_of_corrections_is_read_back_as_it_was_known(lite, story):
    "Against a list in memory that is searched from end to end."
    source, told, facts, moments = f"story {next(NUMBER)}", pd.DataFrame(np.nan, WEEK, ["A", "B"]), [], []
    for step in story:
        for (row, column), value in step.items():
            before = told.iloc[row, column]
            there = any(f[:2] == (row, column) for f in facts)
            if (np.isnan(before) and np.isnan(value)) or before == value:
                continue
            facts.append((row, column, len(moments) if there else -1, value))  # -1: known at the close
            told.iloc[row, column] = value
        materialise(lite, [ITSELF], {"close": told.copy()}, source)
        moments.append(pd.Timestamp.now("UTC"))
    closes = session_closes(WEEK)
    asked = [(c, n) for n in (*closes, *moments) for c in (0, 1)]
    frame = pd.DataFrame({"symbol": ["AB"[c] for c, _ in asked], "decision_time": [moment for _, moment in asked]})
    found = read_features(lite, [ITSELF], frame, source, within=None)["itself"].to_numpy()
    for (column, moment), value in zip(asked, found, strict=True):
        fit = [f for f in facts if f[1] == column and (closes[f[0]] if f[2] < 0 else moments[f[2]]) <= moment]
        newest = [f for f in fit if f[0] == max(g[0] for g in fit)]
        expected = newest[-1][3] if newest else np.nan
        assert value == expected or (np.isnan(value) and np.isnan(expected))


def test_what_was_recorded_later_can_be_left_out(engine):
    close = real_days()["close"].loc[WEEK]
    materialise(engine, [ITSELF], {"close": close.iloc[:2]}, "a")
    moment = dt.datetime.now(dt.UTC)
    materialise(engine, [ITSELF], {"close": close}, "a")
    asked = pd.MultiIndex.from_product([WEEK, ["S0"]], names=["date", "symbol"])
    early = read_features(engine, [ITSELF], asked, "a", within=ZERO, recorded_by=moment)["itself"]
    assert early.notna().tolist() == [True, True, False, False, False]
    assert read_features(engine, [ITSELF], asked, "a", within=ZERO)["itself"].notna().all()


def test_a_feature_that_was_not_computed_is_missing_and_not_last_months(engine):
    close = real_days()["close"].loc[DAYS[-30:]]
    materialise(engine, [ITSELF], {"close": close.iloc[:5]}, "a")
    asked = pd.MultiIndex.from_product([DAYS[-30:], ["S0", "none"]], names=["date", "symbol"])
    found = read_features(engine, [ITSELF], asked, "a")["itself"].unstack("symbol")
    age = (found.index - close.index[4]).days
    assert found["none"].isna().all() and (found["S0"].notna() == (age <= 7)).all()
    assert read_features(engine, [ITSELF], asked, "a", within=None)["itself"].unstack("symbol")["S0"].notna().all()


def test_changed_code_needs_a_new_version(engine):
    panels = price_panels(**real_days())
    view = PRICE_VIEWS["reversal"]
    materialise(engine, [view], panels, "a", sessions=WEEK)
    altered = partial(reversal, window=22)
    with pytest.raises(StoreError, match="raise the view's version to 2"):
        materialise(engine, [FeatureView("reversal", 1, view.inputs, altered, 23, "")], panels, "a", sessions=WEEK)
    second = FeatureView("reversal", 2, view.inputs, altered, 23, "")
    assert materialise(engine, [second], panels, "a", sessions=WEEK).rows == 15
    asked = pd.MultiIndex.from_product([WEEK, ["S1"]], names=["date", "symbol"])
    old, new = (read_features(engine, [v], asked, "a")["reversal"] for v in (view, second))
    assert (old != new).all() and np.array_equal(old, view(panels).loc[WEEK, "S1"])


def test_sources_are_kept_apart(engine):
    close = real_days()["close"].loc[WEEK]
    materialise(engine, [ITSELF], {"close": close}, "a")
    materialise(engine, [ITSELF], {"close": close * 2}, "b")
    asked = pd.MultiIndex.from_product([WEEK, ["S0"]], names=["date", "symbol"])
    assert (read_features(engine, [ITSELF], asked, "b") == 2 * read_features(engine, [ITSELF], asked, "a")).all(
        axis=None
    )


def test_two_writers_at_once_double_nothing(engine):
    close = real_days()["close"].loc[DAYS[-100:]]
    failed = []

    def write():
        try:
            materialise(engine, [ITSELF], {"close": close}, "a")
        except Exception as error:  # told below
            failed.append(error)

    writers = [threading.Thread(target=write) for _ in range(4)]
    [w.start() for w in writers]
    [w.join() for w in writers]
    assert not failed
    assert len(feature_rows(engine, [ITSELF], "a")) == close.size


def test_no_rows_and_no_questions(engine):
    close = real_days()["close"].loc[WEEK]
    assert materialise(engine, [ITSELF], {"close": close.iloc[:0]}, "a").rows == 0
    assert materialise(engine, [ITSELF], {"close": close * np.nan}, "a").rows == 0
    asked = pd.MultiIndex.from_product([WEEK, ["S0"]], names=["date", "symbol"])
    assert read_features(engine, [ITSELF], asked, "a")["itself"].isna().all()
    assert read_features(engine, [ITSELF], asked[:0], "a").shape == (0, 1)


def test_what_is_wrong_is_named_before_anything_is_stored(engine):
    close = real_days()["close"].loc[WEEK]
    lacking = PRICE_VIEWS["illiquidity"]
    with pytest.raises(DataError, match="illiquidity: needs prices, volume"):
        materialise(engine, [ITSELF, lacking], {"close": close}, "a")
    assert feature_rows(engine, [ITSELF], "a").empty
    with pytest.raises(DataError, match="can't be known before its session closes"):
        materialise(engine, [ITSELF], {"close": close}, "a", known_delay=dt.timedelta(hours=-1))
    infinite = FeatureView("wild", 1, ("close",), lambda c: c / 0.0, 1, "")
    with pytest.raises(DataError, match="wild: S0 on 2018-12-24 is infinite"):
        materialise(engine, [infinite], {"close": close}, "a")
    holiday = close.set_axis([*WEEK[:-1], pd.Timestamp("2019-01-01")], axis=0)
    with pytest.raises(DataError, match="2019-01-01"):
        materialise(engine, [ITSELF], {"close": holiday}, "a")
    asked = pd.MultiIndex.from_product([WEEK, ["S0"]], names=["date", "symbol"])
    with pytest.raises(DataError, match="a:log_price, version 1: nothing is stored"):
        read_features(engine, [FeatureView("log_price", 1, ("close",), log_price, 1, "")], asked, "a")
    with pytest.raises(DataError, match="'date', 'symbol'"):
        read_features(engine, [ITSELF], asked.rename(["day", "symbol"]), "a")
    with pytest.raises(DataError, match="'decision_time' is missing"):
        read_features(engine, [ITSELF], pd.DataFrame({"symbol": ["S0"]}), "a")
