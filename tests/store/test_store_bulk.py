"Many rows at once: every server keeps each value to the bit, each correction apart, and no cell twice."

import datetime as dt
import itertools
import math
import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sqlalchemy import select, text

from mlt_lib.errors import DataError, StoreError
from mlt_lib.market.calendar import session_close, sessions
from mlt_lib.store.arrow import NONE, fetch_arrow, floats, text_codes, whole_numbers
from mlt_lib.store.bars import (
    Written,
    read_actions,
    read_bars,
    withdraw_actions,
    withdraw_bars,
    write_actions,
    write_bars,
    write_closes,
)
from mlt_lib.store.bulk import append_rows, binary_rows, values_of
from mlt_lib.store.database import snapshot, transaction
from mlt_lib.store.schema import Bar, Feature, Instrument, News

DAYS = sessions("2022-11-21", "2022-11-29")
FIELDS = ("open", "high", "low", "close", "volume")
UTC = dt.UTC
HOUR = dt.timedelta(hours=1)
ON_SERVERS = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SOURCES = (f"source {n}" for n in itertools.count())  # one for each example: nothing has to be emptied


def bar(symbol="KO", day=0, close=63.0, **numbers) -> dict:
    row = dict(symbol=symbol, session=DAYS[day], open=close, high=close + 1, low=close - 1, close=close, volume=1e6)
    return row | numbers


def frame(*rows) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


# the way in and the way out

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
moments = st.datetimes(dt.datetime(1700, 1, 2), dt.datetime(2199, 1, 1))
news = st.lists(
    st.tuples(texts, st.one_of(st.none(), texts), moments),
    min_size=1,
    max_size=230,
    unique_by=lambda row: row[0],
)


@ON_SERVERS
@given(rows=news)
def test_text_and_moments_come_back_whole(engine, rows):
    "News has texts of every length, missing ones, and moments to the microsecond."
    source = next(SOURCES)
    ids, bodies, at = zip(*rows, strict=True)
    times = pd.DatetimeIndex(at).tz_localize("UTC")
    columns = {"source": source, "item_id": ids, "event_time": times, "known_time": times, "body": bodies}
    columns |= {"recorded_time": pd.Timestamp(2022, 1, 1), "title": "t", "symbols": "[]", "raw": "{}"}
    with transaction(engine) as session:
        assert append_rows(session.connection(), News.__table__, columns) == len(rows)
    with snapshot(engine) as session:
        kept = session.scalars(select(News).where(News.source == source)).all()
    assert {n.item_id: (n.body, n.event_time) for n in kept} == {i: (b, a.replace(tzinfo=UTC)) for i, b, a in rows}
    table = fetch_arrow(engine, "SELECT item_id, body, event_time FROM news WHERE source = {1}", [source])
    for name, given_ in (("item_id", ids), ("body", bodies)):
        codes, words = text_codes(table, name)
        assert sorted(map(str, np.array([*words, None], object)[codes])) == sorted(map(str, given_))
    assert sorted(whole_numbers(table, "event_time", "us")) == sorted(times.as_unit("us").asi8)


numbers = st.one_of(st.just(math.nan), st.floats(-1e299, 1e299, allow_subnormal=True))


@ON_SERVERS
@given(values=st.lists(numbers, min_size=1, max_size=120))
def test_numbers_come_back_to_the_bit(engine, values):
    name = next(SOURCES)
    days = sessions("2020-01-02", "2021-12-31")[: len(values)]
    at = pd.Timestamp(2022, 1, 1)
    columns = {"feature": name, "version": 1, "symbol": "KO", "session": days, "value": values}
    columns |= {"event_time": at, "known_time": at, "recorded_time": at}
    with transaction(engine) as session:
        append_rows(session.connection(), Feature.__table__, columns)
    table = fetch_arrow(engine, "SELECT session, value FROM features WHERE feature = {1} ORDER BY session", [name])
    told = floats(table, "value")
    assert (told.view("i8") == np.array(values).view("i8"))[~np.isnan(values)].all()
    assert (np.isnan(told) == np.isnan(values)).all()
    assert (whole_numbers(table, "session", "D") == days.to_numpy().astype("datetime64[D]").astype(int)).all()


def test_an_answer_without_rows_has_columns_all_the_same(engine):
    table = fetch_arrow(engine, "SELECT symbol, session, known_time, close FROM bars WHERE source = {1}", ["nobody"])
    assert [len(c) for c in (*text_codes(table, "symbol"), floats(table, "close"))] == [0, 0, 0]
    assert len(whole_numbers(table, "session", "D")) == len(whole_numbers(table, "known_time", "us")) == 0


def test_a_row_of_binary_copy_as_the_manual_has_it():
    columns = [values_of("text", ["é", None], 2), values_of("day", ["2000-01-02", None], 2)]
    columns += [values_of("moment", pd.Timestamp("2000-01-01T00:00:01"), 2), values_of("whole", [7, NONE], 2)]
    first = "0004 00000002c3a9 00000004 00000001 00000008 00000000000f4240 00000004 00000007"
    second = "0004 ffffffff ffffffff 00000008 00000000000f4240 ffffffff"
    assert binary_rows(columns, slice(0, 2)) == bytes.fromhex(first + second)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"symbol": ["a", 1]}, "1 is a int, not text"),
        ({"symbol": ["a\0b"]}, "NUL"),
        ({"symbol": ["\ud800"]}, "half a character"),
        ({"symbol": ["a", "b"], "close": [1.0]}, "a column of 1 values among columns of 2"),
    ],
)
def test_a_column_that_is_none_is_refused(engine, columns, says):
    with pytest.raises(StoreError, match=says), transaction(engine) as session:
        append_rows(session.connection(), Bar.__table__, columns)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, 1e12])
def test_the_table_itself_refuses_what_is_no_price(engine, bad):
    at = pd.Timestamp(2022, 11, 21, 21)
    columns = {"source": "s", "symbol": ["A"], "session": DAYS[0], "close": [bad]}
    columns |= {"event_time": at, "known_time": at, "recorded_time": at}
    with pytest.raises(Exception, match="(?i)check"), transaction(engine) as session:
        append_rows(session.connection(), Bar.__table__, columns)
    with snapshot(engine) as session:
        assert session.scalar(select(Bar.symbol)) is None


def test_a_lost_connection_of_arrow_is_replaced(engine, server):
    if server == "sqlite":
        pytest.skip("SQLite has no connections that break")
    write_bars(engine, frame(bar()), "s")
    with transaction(engine) as session:
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    assert read_bars(engine, "s")["close"].shape == (1, 1)


# bars


def test_every_number_of_a_bar_comes_back(engine):
    rows = frame(bar("KO", 0), bar("PG", 0, 140.0, volume=math.nan), bar("KO", 1, 64.5, open=math.nan))
    assert write_bars(engine, rows, "s") == Written(new=3)
    told = read_bars(engine, "s", fields=FIELDS)
    for field in FIELDS:
        wide = rows.pivot(index="session", columns="symbol", values=field)
        assert_frame_equal(told[field], wide, check_freq=False, check_column_type=False, check_index_type=False)


def test_the_same_twice_is_nothing_new_in_any_order(engine):
    rows = frame(*(bar(s, d) for s in ("KO", "PG", "AAPL") for d in range(3)))
    assert write_bars(engine, rows, "s") == Written(new=9)
    assert write_bars(engine, rows.sample(frac=1, random_state=0), "s") == Written(unchanged=9)
    assert write_bars(engine, rows.assign(symbol=rows["symbol"].astype("category")), "s") == Written(unchanged=9)


@pytest.mark.parametrize("change", [{"close": 63.5}, {"volume": math.nan}, {"open": 62.75}, {"volume": 0.0}])
def test_any_number_that_differs_is_a_restatement(engine, change):
    write_bars(engine, frame(bar(), bar(day=1)), "s")
    assert write_bars(engine, frame(bar() | change, bar(day=1)), "s") == Written(restated=1, unchanged=1)
    told = read_bars(engine, "s", fields=FIELDS)
    expected = bar() | change
    assert [told[f].iat[0, 0] for f in FIELDS] == pytest.approx([expected[f] for f in FIELDS], nan_ok=True)


def test_closes_alone_do_not_contradict_a_whole_bar(engine):
    write_bars(engine, frame(bar()), "s")
    assert write_closes(engine, pd.DataFrame({"KO": [63.0]}, index=DAYS[:1]), "s") == 0
    assert write_closes(engine, pd.DataFrame({"KO": [63.5]}, index=DAYS[:1]), "s") == 1
    told = read_bars(engine, "s", fields=("close", "volume"))
    assert told["close"].iat[0, 0] == 63.5 and math.isnan(told["volume"].iat[0, 0])


def test_a_withdrawn_bar_is_no_bar_and_may_come_back(engine):
    rows = frame(bar("KO", 0), bar("KO", 1), bar("PG", 1))
    write_bars(engine, rows, "s")
    with snapshot(engine) as session:
        before = session.scalar(select(Bar.recorded_time).limit(1))
    assert withdraw_bars(engine, "s", rows[:1]) == Written(withdrawn=1)
    assert withdraw_bars(engine, "s", frame(bar("KO", 0), bar("XX", 0))) == Written(unchanged=2)
    told = read_bars(engine, "s", fields=("close", "high"))
    assert told["close"].index.tolist() == [DAYS[1]], "the session has no bar left"
    assert read_bars(engine, "s", recorded_by=before)["close"].shape == (2, 2), "what we had written down then"
    early = read_bars(engine, "s", ["KO"], as_of=session_close(DAYS[0]))["close"]
    assert early.empty, "a withdrawal is known when the bar was"
    assert write_bars(engine, rows[:1], "s") == Written(restated=1)
    assert read_bars(engine, "s")["close"].shape == (2, 2)


def test_a_span_of_sessions(engine):
    write_bars(engine, frame(*(bar(s, d) for s in ("KO", "PG") for d in range(5))), "s")
    told = read_bars(engine, "s", ["PG", "KO"], since=DAYS[1].date(), until=DAYS[3].date())["close"]
    assert told.index.tolist() == list(DAYS[1:4]) and told.columns.tolist() == ["PG", "KO"]
    assert read_bars(engine, "s", since=DAYS[4].date())["close"].shape == (1, 2)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (frame(bar(), bar()), "KO on 2022-11-21 stands there twice"),
        (frame(bar(), bar(day=1, close=math.nan)), "KO on 2022-11-22 has close nan; a price is above 0"),
        (frame(bar(high=math.inf)), "KO on 2022-11-21 has high inf"),
        (frame(bar(volume=-1.0)), "has volume -1; a volume is 0 or more"),
        (frame(bar(), bar(session=pd.Timestamp("2022-11-24"))), r"2022-11-24 \(Thursday\) is not a session"),
        (frame(bar(session=pd.NaT)), "a row has no session"),
        (frame(bar(session="soon")), "holds what is no date"),
        (frame(bar(session=pd.Timestamp("2022-11-21", tz="UTC"))), "sessions are in UTC"),
        (frame(bar(symbol=None)), "a row without a symbol"),
        (frame(bar(symbol="  ")), "a row without a symbol"),
        (frame(bar() | {"close": "n/a"}), "column 'close' holds what is no number"),
        (frame(bar()).drop(columns="close"), "column 'close' is missing"),
    ],
)
def test_what_can_not_be_a_bar_is_refused_by_name_and_nothing_written(tmp_path, rows, says):
    from mlt_lib.store.database import open_database

    engine = open_database(f"sqlite:///{tmp_path}/desk.db")
    with pytest.raises(DataError, match=says):
        write_bars(engine, rows, "s")
    assert fetch_arrow(engine, "SELECT * FROM bars").num_rows == 0
    engine.dispose()


def test_no_rows_are_no_work(engine):
    assert write_bars(engine, frame(bar())[:0], "s") == Written() == withdraw_bars(engine, "s", frame(bar())[:0])
    with pytest.raises(DataError, match="no field 'vwap'"):
        read_bars(engine, "s", fields=("vwap",))


def test_progress_tells_how_far_it_is(engine):
    days = sessions("2015-01-02", "2022-11-29")
    names = [f"S{n:02}" for n in range(12)]
    rows = pd.DataFrame({"symbol": np.repeat(names, len(days)), "session": np.tile(days, len(names)), "close": 1.5})
    told = []
    assert write_bars(engine, rows, "s", progress=lambda *step: told.append(step)).new == len(rows)
    assert told == [(20_000, len(rows)), (len(rows), len(rows))]


# splits and dividends


def test_actions_are_corrected_and_withdrawn_as_bars_are(engine):
    rows = pd.DataFrame(
        [("KO", DAYS[2], "dividend", 0.44), ("KO", DAYS[2], "split", 2.0), ("AAPL", DAYS[1], "split", 4.0)],
        columns=["symbol", "session", "kind", "value"],
    )
    assert write_actions(engine, rows, "s") == Written(new=3)
    assert write_actions(engine, rows[::-1].assign(value=[4.0, 2.0, 0.45]), "s") == Written(restated=1, unchanged=2)
    assert read_actions(engine, "s").to_numpy().tolist() == [
        ["AAPL", DAYS[1], "split", 4.0],
        ["KO", DAYS[2], "dividend", 0.45],
        ["KO", DAYS[2], "split", 2.0],
    ]
    assert read_actions(engine, "s", as_of=session_close(DAYS[1]))["symbol"].tolist() == ["AAPL"]
    assert withdraw_actions(engine, "s", rows[1:2]) == Written(withdrawn=1)
    assert read_actions(engine, "s", ["KO"])["kind"].tolist() == ["dividend"]
    with pytest.raises(DataError, match="kind 'merger'; it is one of split, dividend"):
        write_actions(engine, rows.assign(kind="merger"), "s")
    assert read_actions(engine, "nobody").shape == (0, 4)


# whatever happens

step = st.tuples(
    st.sampled_from(["write", "withdraw"]),
    st.dictionaries(
        st.tuples(st.sampled_from(["AAPL", "KO"]), st.integers(0, 2)),
        st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from([math.nan, 5.0])),
        min_size=1,
    ),
    st.integers(0, 30),  # hours from the close until it is known
)


@ON_SERVERS
@given(history=st.lists(step, min_size=1, max_size=6), hours=st.integers(-1, 80), written=st.integers(0, 6))
def test_any_moment_of_any_history_reads_as_a_plain_model_does(engine, history, hours, written):
    "Writes, corrections and withdrawals in any order, read as of any moment known and recorded."
    source, rows, stamps = next(SOURCES), [], []  # the model: one tuple for each row that is ever written
    for what, cells, delay in history:
        last = {row[0]: row for row in rows}
        if what == "write":
            given_ = frame(*(dict(symbol=s, session=DAYS[d], close=c, volume=v) for (s, d), (c, v) in cells.items()))
            done = write_bars(engine, given_, source, known_delay=delay * HOUR)
            fresh = [c for c, v in cells.items() if c not in last or str(last[c][1]) != str(v)]
            rows += [(c, cells[c], session_close(DAYS[c[1]]) + delay * HOUR, len(stamps)) for c in fresh]
            assert (done.new + done.restated, done.unchanged) == (len(fresh), len(cells) - len(fresh))
        else:
            done = withdraw_bars(engine, source, frame(*(dict(symbol=s, session=DAYS[d]) for s, d in cells)))
            fresh = [c for c in cells if c in last and last[c][1] is not None]
            rows += [(c, None, last[c][2], len(stamps)) for c in fresh]
            assert done == Written(withdrawn=len(fresh), unchanged=len(cells) - len(fresh))
        stamps.append(dt.datetime.now(UTC))
    as_of, by = session_close(DAYS[0]) + hours * HOUR, min(written, len(stamps) - 1)
    for known, recorded in ((None, None), (as_of, None), (None, by), (as_of, by)):
        model = {}
        for cell, value, when, step_ in rows:
            if (known is None or when <= known) and (recorded is None or step_ <= recorded):
                model[cell] = value
        model = {cell: value for cell, value in model.items() if value is not None}
        if not rows:
            break
        told = read_bars(
            engine, source, None, ("close", "volume"), known, None if recorded is None else stamps[recorded]
        )
        seen = {
            (symbol, DAYS.get_loc(day)): (close, float(told["volume"].at[day, symbol]))
            for (day, symbol), close in told["close"].stack().items()
            if not math.isnan(close)
        }
        assert str(sorted(seen.items())) == str(sorted(model.items()))


# at once


def test_writers_of_one_source_at_once_double_nothing(engine):
    rows = frame(*(bar(f"S{n:03}", d, 10.0 + n) for n in range(150) for d in range(5)))
    done, faults = [], []

    def work():
        try:
            done.append(write_bars(engine, rows, "s"))
        except Exception as error:  # told below, in the test's own thread
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert sum(w.new for w in done) == len(rows) and sum(w.unchanged for w in done) == 3 * len(rows)
    assert fetch_arrow(engine, "SELECT symbol FROM bars").num_rows == len(rows)
    with snapshot(engine) as session:
        assert len(session.scalars(select(Instrument.symbol)).all()) == 150


def test_a_write_that_breaks_leaves_nothing(engine):
    rows = frame(*(bar(f"S{n:03}", 0) for n in range(5)))

    def stop(done, count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bars(engine, rows, "s", progress=stop)
    assert write_bars(engine, rows, "s") == Written(new=5)


def test_a_full_load_lands_in_partitions(engine, server):
    if server != "postgres":
        pytest.skip("the other servers make no partitions of their own")
    write_bars(engine, frame(bar(), bar(session=pd.Timestamp("2015-06-01"))), "s")
    with snapshot(engine) as session:
        lies = session.scalars(text("SELECT tableoid::regclass::text FROM bars ORDER BY session")).all()
    assert lies == ["bars_20150101", "bars_20220101"]
