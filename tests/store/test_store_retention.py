"Nothing goes too early, nothing goes unrolled, and what is done is what was planned."

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sqlalchemy import text

from mlt_lib.errors import StoreError
from mlt_lib.market.calendar import session_hours, sessions
from mlt_lib.settings import Retention
from mlt_lib.store.arrow import fetch_arrow, whole_numbers
from mlt_lib.store.audit import verify
from mlt_lib.store.bars import read_bars
from mlt_lib.store.bulk import append_rows
from mlt_lib.store.database import snapshot, transaction
from mlt_lib.store.retention import TABLES, apply, plan
from mlt_lib.store.rollup import daily_bars, roll_up
from mlt_lib.store.schema import Feature, MinuteBar, Quote
from mlt_lib.store.tiers import ensure_partitions

UTC = dt.UTC
NUMBERS = ("open", "high", "low", "close", "volume")
MINUTE = 60_000_000


def minute(symbol, at, price, source="alpaca", volume=100.0) -> dict:
    row = dict(source=source, symbol=symbol, event=int(at), open=price, high=price + 1, low=price - 1, close=price)
    return row | dict(volume=volume)


def store(engine, rows, recorded) -> None:
    "Minutes as a feed would bring them."
    frame = pd.DataFrame(rows)
    at = pd.to_datetime(frame["event"], unit="us")
    columns = {name: frame[name] for name in ("source", "symbol", *NUMBERS)}
    with transaction(engine) as session:
        ensure_partitions(session.connection(), "minute_bars", at.min().to_pydatetime(), at.max().to_pydatetime())
        times = dict(event_time=at, known_time=at + pd.Timedelta(minutes=15), recorded_time=recorded)
        append_rows(session.connection(), MinuteBar.__table__, columns | times)


def kept(engine) -> np.ndarray:
    return whole_numbers(fetch_arrow(engine, "SELECT event_time FROM minute_bars"), "event_time", "us")


def feed(days, rng) -> pd.DataFrame:
    "Three minutes a session of two names; one in five comes days later. `arrives`: when it can be stored."
    opens = session_hours(days)[0].asi8
    rows = [
        minute(symbol, opens[n] + m * MINUTE, float(50 + rng.integers(0, 20)))
        | {"late": rng.choice([0, 0, 0, 0, 1, 2, 20])}
        for n in range(len(days))
        for symbol in ("KO", "PG")
        for m in (0, 1, 200)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(
        arrives=pd.to_datetime(frame["event"], unit="us", utc=True).dt.normalize() + pd.to_timedelta(frame["late"], "D")
    )


def test_four_hundred_days(engine, server):
    "A desk that cleans up time and again: no young row ever goes, and each session ends with the bar of all that arrived."
    retention = Retention(minute_bars_days=60, refresh_days=3)
    days = sessions("2021-01-04", "2022-02-08")
    arrivals = feed(days, np.random.default_rng(7))
    stored, went = pd.Series(False, index=arrivals.index), []
    steps = pd.date_range("2021-01-04 23:00", periods=401, tz="UTC", freq="D")[:: 8 if server == "sqlite" else 25]
    for now in [*steps, pd.Timestamp("2022-06-01", tz="UTC")]:
        fresh = arrivals[(arrivals["arrives"] <= now) & ~stored]
        stored |= arrivals["arrives"] <= now
        if len(fresh):
            store(engine, fresh, now)
        before, told = kept(engine), plan(engine, retention, now.to_pydatetime())
        assert_frame_equal(apply(engine, retention, now.to_pydatetime()), told)
        after, row = kept(engine), told.set_index("table").loc["minute_bars"]
        assert len(before) - len(after) == row["rows"] and row["late_rows"] == 0
        young = (now.normalize() - pd.Timedelta(days=60)).tz_convert(None).to_datetime64().astype("M8[us]").astype(int)
        assert (before >= young).sum() == (after >= young).sum()
        assert plan(engine, retention, now.to_pydatetime())["rows"].sum() == 0, "a second run has nothing to do"
        went.append(row["rows"])
    assert sum(went) == len(arrivals) and np.count_nonzero(went) > (40 if server == "sqlite" else 8)
    expected = daily_bars(arrivals.assign(known=arrivals["event"] + 15 * MINUTE), days)
    for field, table in read_bars(engine, "alpaca:minutes", fields=NUMBERS).items():
        wide = expected.pivot(index="session", columns="symbol", values=field)
        assert (table.to_numpy() == wide.to_numpy()).all() and table.index.equals(wide.index)
    assert verify(engine).ok


def test_a_minute_of_a_session_that_is_gone_changes_no_bar(engine):
    retention = Retention(minute_bars_days=30)
    days = sessions("2022-01-03", "2022-06-30")
    opens = session_hours(days)[0].asi8
    store(
        engine, [minute("KO", at + m * MINUTE, 60.0 + m) for at in opens for m in range(3)], pd.Timestamp("2022-07-01")
    )
    evening = dt.datetime(2022, 7, 1, 23, tzinfo=UTC)
    apply(engine, retention, evening)
    bars = read_bars(engine, "alpaca:minutes", fields=("high", "volume"))
    store(engine, [minute("KO", opens[5] + 9 * MINUTE, 999.0)], pd.Timestamp("2022-07-02"))
    told = plan(engine, retention, evening + dt.timedelta(days=1)).set_index("table").loc["minute_bars"]
    assert told["late_rows"] == 1 <= told["rows"]
    apply(engine, retention, evening + dt.timedelta(days=1))
    for field, table in read_bars(engine, "alpaca:minutes", fields=("high", "volume")).items():
        assert_frame_equal(table, bars[field])
    with snapshot(engine) as session:
        trail = session.scalars(text("SELECT payload FROM audit_events WHERE kind = 'retention.applied'")).all()
    assert any('"late_rows":1' in payload for payload in trail)


def test_late_minutes_inside_the_window_are_rolled_up_again(engine):
    days = sessions("2022-06-01", "2022-06-30")
    opens = session_hours(days)[0].asi8
    store(engine, [minute("KO", at, 60.0) for at in opens], pd.Timestamp("2022-06-30 22:00"))
    apply(engine, Retention(), dt.datetime(2022, 6, 30, 22, tzinfo=UTC))
    store(
        engine,
        [minute("KO", opens[-1] + MINUTE, 70.0), minute("KO", opens[-2] + MINUTE, 80.0)],
        pd.Timestamp("2022-07-01"),
    )
    told = apply(engine, Retention(), dt.datetime(2022, 7, 1, 12, tzinfo=UTC))
    assert told["rows"].sum() == 0 and told["rolled_through"].iloc[0] == days[-1].date()
    assert read_bars(engine, "alpaca:minutes")["close"]["KO"].tail(3).tolist() == [60.0, 80.0, 70.0]


@pytest.mark.parametrize("days", [1, 2, 3])
def test_a_horizon_inside_the_refresh_window_is_held_back(engine, days):
    now = dt.datetime(2022, 7, 1, 12, tzinfo=UTC)
    told = plan(engine, Retention(quotes_days=days, refresh_days=3), now).set_index("table")
    assert told.loc["quotes", "horizon"] == dt.datetime(2022, 6, 28, tzinfo=UTC)
    assert told.loc["quotes", "held_back"] == "the last 3 days may still change"
    assert told.loc["news", "held_back"] == "kept for good"


def test_a_session_that_is_not_over_is_not_rolled_up(engine):
    opens, closes = session_hours(sessions("2022-06-29", "2022-06-30"))
    store(engine, [minute("KO", at, 60.0) for at in opens.asi8], pd.Timestamp("2022-06-30 15:00"))
    apply(engine, Retention(), closes[1].to_pydatetime() - dt.timedelta(microseconds=1))
    assert len(read_bars(engine, "alpaca:minutes")["close"]) == 1
    apply(engine, Retention(), closes[1].to_pydatetime())
    assert len(read_bars(engine, "alpaca:minutes")["close"]) == 2


def test_quotes_and_features_go_by_their_own_days(engine, server):
    now = dt.datetime(2022, 7, 1, 12, tzinfo=UTC)
    days = sessions("2018-01-02", "2022-06-30")
    at = session_hours(days)[1]
    with transaction(engine) as session:
        connection = session.connection()
        for table in ("quotes", "features"):
            if table == "features" or server != "postgres":
                ensure_partitions(connection, table, days[0].date(), days[-1].date())
        quotes = dict(
            source="s", symbol="KO", event_time=at, known_time=at, recorded_time=now, bid=np.full(len(at), 60.0)
        )
        append_rows(connection, Quote.__table__, quotes)
        features = dict(feature="f", version=1, symbol="KO", session=days, value=np.full(len(days), 1.0))
        append_rows(connection, Feature.__table__, features | dict(event_time=at, known_time=at, recorded_time=now))
    told = apply(engine, Retention(quotes_days=30, features_days=800), now).set_index("table")
    left = {table: fetch_arrow(engine, f"SELECT * FROM {table}").num_rows for table in ("quotes", "features")}
    assert left == {table: len(days) - told.loc[table, "rows"] for table in left}
    assert left["quotes"] == (days >= "2022-06-01").sum() if server != "timescale" else 20 < left["quotes"] < 30
    # by parts of a year the sessions of 2020 stay until all of them are too old
    assert (
        left["features"] == (days >= ("2020-04-22" if server == "sqlite" else "2020-01-01")).sum()
        or server == "timescale"
    )
    if server != "sqlite":
        assert told.loc["features", "parts"] >= 1


def test_nothing_to_do_and_no_zone(engine):
    seen = []
    told = apply(engine, Retention(), dt.datetime(2022, 7, 1, tzinfo=UTC), progress=lambda *step: seen.append(step))
    assert told["rows"].sum() == 0 and told["table"].tolist() == list(TABLES)
    assert seen[-1] == ("features", 5, 5)
    with pytest.raises(StoreError, match="no time zone"):
        plan(engine, Retention(), dt.datetime(2022, 7, 1))


prices = st.floats(1, 1000, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-60, 500), prices, st.sampled_from([0.0, 5.0, np.nan])),
        max_size=30,
        unique_by=lambda m: m[0],
    )
)
def test_a_daily_bar_is_what_the_formula_says(minutes):
    days = sessions("2022-06-30", "2022-06-30")
    opens, closes = (int(hours.asi8[0]) for hours in session_hours(days))
    rows = [minute("KO", opens + m * MINUTE, p, volume=v) | {"known": opens + m * MINUTE} for m, p, v in minutes]
    frame = pd.DataFrame(rows, columns=["source", "symbol", "event", *NUMBERS, "known"])
    told = daily_bars(frame.sort_values("event"), days)
    inside = sorted((m, p, v) for m, p, v in minutes if opens <= opens + m * MINUTE < closes)
    assert len(told) == (1 if inside else 0)
    if inside:
        bar = told.iloc[0]
        assert (bar["open"], bar["close"]) == (inside[0][1], inside[-1][1])
        assert (bar["high"], bar["low"]) == (max(p for _, p, _ in inside) + 1, min(p for _, p, _ in inside) - 1)
        volumes = [v for _, _, v in inside if not np.isnan(v)]
        assert bar["volume"] == sum(volumes) if volumes else np.isnan(bar["volume"])
        assert bar["known"] == closes


def test_a_corrected_minute_counts_once_and_one_taken_back_not_at_all(engine):
    days = sessions("2022-06-30", "2022-06-30")
    at = session_hours(days)[0].asi8[0]
    store(engine, [minute("KO", at, 60.0), minute("KO", at + MINUTE, 61.0)], pd.Timestamp("2022-06-30 15:00"))
    store(engine, [minute("KO", at, 50.0)], pd.Timestamp("2022-06-30 16:00"))
    taken = dict(source="alpaca", symbol="KO", event=at + MINUTE) | dict.fromkeys(NUMBERS, np.nan)
    store(engine, [taken], pd.Timestamp("2022-06-30 17:00"))
    roll_up(engine, days)
    told = read_bars(engine, "alpaca:minutes", fields=("open", "close", "volume"))
    assert [told[f].iat[0, 0] for f in ("open", "close", "volume")] == [50.0, 50.0, 100.0]
