"Bars: what goes in comes out, corrections stay apart, and nothing is seen before it was known."

import datetime as dt
import math

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from sqlalchemy import select, text

from mlt_lib.data.sample import closes
from mlt_lib.errors import DataError, StoreError
from mlt_lib.market.calendar import session_close, sessions
from mlt_lib.store.bars import (
    data_hash,
    read_closes,
    read_quarantine,
    write_closes,
    write_quarantine,
)
from mlt_lib.store.database import snapshot, transaction
from mlt_lib.store.schema import Bar, Instrument

DAYS = sessions("2022-11-21", "2022-11-29")  # holds Thanksgiving and the early close after it
NAMES = ["AAPL", "MSFT"]
HOUR = dt.timedelta(hours=1)


def panel(values, days=DAYS, names=NAMES) -> pd.DataFrame:
    return pd.DataFrame(values, index=days[: len(values)], columns=names[: len(values[0])], dtype=float)


def bars(engine) -> list[Bar]:
    with snapshot(engine) as session:
        return list(session.scalars(select(Bar).order_by(Bar.recorded_time, Bar.symbol, Bar.session)))


# in and out


def test_the_whole_sample_comes_back_to_the_bit(engine, server):
    prices = closes() if server == "sqlite" else closes().tail(600)
    assert write_closes(engine, prices, "sample") == prices.size
    stored = read_closes(engine, "sample")
    assert_frame_equal(stored, prices, check_exact=True, check_freq=False)
    assert write_closes(engine, prices, "sample") == 0
    assert data_hash(stored) == data_hash(prices)


def test_each_bar_tells_its_three_times(engine):
    before = dt.datetime.now(dt.UTC)
    write_closes(engine, panel([[1.0, 2.0]] * 5), "s", known_delay=HOUR)
    friday = next(b for b in bars(engine) if b.session == dt.date(2022, 11, 25))
    assert friday.event_time == dt.datetime(2022, 11, 25, 18, tzinfo=dt.UTC)  # 13:00 in New York
    assert friday.known_time == friday.event_time + HOUR
    assert before <= friday.recorded_time <= dt.datetime.now(dt.UTC)
    assert (friday.open, friday.high, friday.low, friday.volume) == (None,) * 4


def test_empty_cells_are_no_rows(engine):
    prices = panel([[1.0, math.nan], [math.nan, math.nan], [3.0, 4.0]])
    assert write_closes(engine, prices, "s") == 3
    assert_frame_equal(
        read_closes(engine, "s"), prices.dropna(how="all"), check_names=False, check_freq=False, check_column_type=False
    )


def test_a_cell_that_turns_empty_keeps_its_bar(engine):
    write_closes(engine, panel([[1.0, 2.0]]), "s")
    assert write_closes(engine, panel([[1.0, math.nan]]), "s") == 0
    assert read_closes(engine, "s").loc[DAYS[0], "MSFT"] == 2.0


def test_a_new_session_and_a_new_name_add_only_themselves(engine):
    write_closes(engine, panel([[1.0], [2.0]]), "s")
    assert write_closes(engine, panel([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]]), "s") == 4
    assert read_closes(engine, "s").to_numpy().tolist() == [[1, 5], [2, 6], [3, 7]]


def test_sources_do_not_mix_but_share_the_instrument(engine):
    write_closes(engine, panel([[1.0, 2.0]]), "a")
    assert write_closes(engine, panel([[9.0]]), "b") == 1
    assert read_closes(engine, "b").to_numpy().tolist() == [[9.0]]
    with snapshot(engine) as session:
        assert [
            (i.symbol, i.source, i.currency) for i in session.scalars(select(Instrument).order_by(Instrument.symbol))
        ] == [
            ("AAPL", "a", "USD"),
            ("MSFT", "a", "USD"),
        ]


def test_symbols_come_in_the_order_asked_for(engine):
    write_closes(engine, panel([[1.0, 2.0]]), "s")
    assert list(read_closes(engine, "s", ["MSFT", "AAPL"]).columns) == ["MSFT", "AAPL"]
    assert list(read_closes(engine, "s", ["MSFT"]).columns) == ["MSFT"]


def test_a_name_not_yet_known_is_an_empty_column(engine):
    write_closes(engine, panel([[1.0], [2.0]]), "s")
    write_closes(engine, panel([[5.0]], DAYS[1:], ["MSFT"]), "s")
    seen = read_closes(engine, "s", NAMES, as_of=session_close(DAYS[0]))
    assert seen.index.tolist() == [DAYS[0]] and seen["MSFT"].isna().all()
    nothing = read_closes(engine, "s", NAMES, as_of=session_close(DAYS[0]) - HOUR)
    assert nothing.shape == (0, 2) and isinstance(nothing.index, pd.DatetimeIndex)


@pytest.mark.parametrize("symbol", ["<script>alert(1)</script>", "A'; DROP TABLE bars; --", "BRK/B", "NAN", "ÄÖ 株"])
def test_any_symbol_is_only_text(engine, symbol):
    write_closes(engine, panel([[1.5]], names=[symbol]), "s")
    assert read_closes(engine, "s", [symbol]).columns.tolist() == [symbol]
    assert read_closes(engine, "s").iat[0, 0] == 1.5


# corrections and what was known


def test_a_correction_is_a_row_of_its_own(engine):
    write_closes(engine, panel([[1.0, 2.0]]), "s")
    assert write_closes(engine, panel([[1.5, 2.0]]), "s") == 1
    assert write_closes(engine, panel([[1.0, 2.0]]), "s") == 1, "and back again is a third row"
    assert [b.close for b in bars(engine) if b.symbol == "AAPL"] == [1.0, 1.5, 1.0]
    assert read_closes(engine, "s").iat[0, 0] == 1.0


def test_what_the_desk_had_written_down_can_be_asked(engine):
    write_closes(engine, panel([[1.0]]), "s")
    then = bars(engine)[-1].recorded_time
    write_closes(engine, panel([[1.5]]), "s")
    assert read_closes(engine, "s", recorded_by=then).iat[0, 0] == 1.0
    assert read_closes(engine, "s").iat[0, 0] == 1.5


def test_a_clock_set_back_does_not_hide_a_correction(engine):
    write_closes(engine, panel([[1.0]]), "s")
    with transaction(engine) as session:
        session.execute(text("UPDATE bars SET recorded_time = '2999-01-01T00:00:00.000000Z'"))
    write_closes(engine, panel([[1.5]]), "s")
    assert read_closes(engine, "s").iat[0, 0] == 1.5


def test_known_at_the_very_moment_counts(engine):
    write_closes(engine, panel([[1.0]]), "s", known_delay=HOUR)
    moment = session_close(DAYS[0]) + HOUR
    assert len(read_closes(engine, "s", as_of=moment)) == 1
    assert len(read_closes(engine, "s", as_of=moment - dt.timedelta(microseconds=1))) == 0


# refusals


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf])
def test_what_is_no_price_is_refused_and_nothing_written(engine, bad):
    with pytest.raises(DataError, match="MSFT on 2022-11-22"):
        write_closes(engine, panel([[1.0, 2.0], [1.0, bad]]), "s")
    assert bars(engine) == []


def test_a_day_that_is_no_session_is_refused_and_nothing_written(engine):
    days = pd.DatetimeIndex(["2022-11-23", "2022-11-24"])
    with pytest.raises(DataError, match=r"2022-11-24 \(Thursday\) is not a session"):
        write_closes(engine, panel([[1.0], [1.0]], days), "s")
    assert bars(engine) == []


def test_a_day_outside_the_calendar_is_refused(engine):
    with pytest.raises(DataError, match="outside the calendar"):
        write_closes(engine, panel([[1.0]], pd.DatetimeIndex(["1929-10-24"])), "s")


def test_a_bar_known_before_its_close_is_refused(engine):
    with pytest.raises(DataError, match="can't be known before its session closes"):
        write_closes(engine, panel([[1.0]]), "s", known_delay=-HOUR)


def test_a_moment_without_a_zone_is_refused(engine):
    write_closes(engine, panel([[1.0]]), "s")
    with pytest.raises(StoreError, match="no time zone"):
        read_closes(engine, "s", as_of=dt.datetime(2022, 11, 21, 21))


def test_no_such_source_or_symbol(engine):
    with pytest.raises(DataError, match="no bars of source 'sample'; run `mlt run ingest`"):
        read_closes(engine, "sample")
    write_closes(engine, panel([[1.0]]), "sample")
    with pytest.raises(DataError, match="has no bars of TSLA; check"):
        read_closes(engine, "sample", ["AAPL", "TSLA"])


# the name of a data set


def test_the_digest_is_of_the_content():
    prices = panel([[1.0, 2.0], [3.0, math.nan]])
    same = prices.iloc[::-1, ::-1].copy()
    assert data_hash(same) == data_hash(prices)
    odd = prices.copy()
    odd.iloc[1, 1] = np.uint64(0xFFF8000000000001).view(np.float64)  # another bit pattern of NaN
    assert data_hash(odd) == data_hash(prices)


@pytest.mark.parametrize(
    "other",
    [
        panel([[1.0, 2.0], [3.0, np.nextafter(4.0, 5.0)]]),
        panel([[1.0, 2.0], [3.0, math.nan]]),
        panel([[1.0, 2.0]]),
        panel([[1.0, 2.0], [3.0, 4.0]], DAYS[1:]),
        panel([[1.0, 2.0], [3.0, 4.0]], names=["AAPL", "MSFU"]),
        panel([[1.0, 2.0], [3.0, 4.0]], names=["AAPLM", "SFT"]),
        panel([[2.0, 1.0], [4.0, 3.0]]),
    ],
    ids=["last bit", "hole", "shorter", "shifted", "renamed", "cut elsewhere", "swapped"],
)
def test_other_content_has_another_digest(other):
    assert data_hash(other) != data_hash(panel([[1.0, 2.0], [3.0, 4.0]]))


def test_the_digest_leaves_the_prices_alone():
    prices = panel([[1.0, math.nan]])
    before = prices.copy()
    data_hash(prices)
    assert_frame_equal(prices, before)


# quarantine


def refused(**changes) -> pd.DataFrame:
    row = dict(session=DAYS[0], symbol="AAPL", value=-1.0, rule="positive", detail="a price is above 0") | changes
    return pd.DataFrame([row])


def test_a_refused_cell_is_kept_once(engine):
    twice = pd.concat([refused(), refused(), refused(rule="spike")])
    assert write_quarantine(engine, twice, "s", run_id="r1") == 2
    assert write_quarantine(engine, twice, "s", run_id="r2") == 0
    assert write_quarantine(engine, twice, "other") == 2
    kept = read_quarantine(engine, "s")
    assert kept[["symbol", "value", "rule", "run_id", "field"]].to_numpy().tolist() == [
        ["AAPL", -1.0, "positive", "r1", "close"],
        ["AAPL", -1.0, "spike", "r1", "close"],
    ]
    assert kept.session.tolist() == [DAYS[0]] * 2 and len(read_quarantine(engine)) == 4


@pytest.mark.parametrize("value", ["n/a", None, math.nan, math.inf, "<b>"])
def test_a_cell_that_is_no_number_is_kept_without_one(engine, value):
    assert write_quarantine(engine, refused(value=value), "s") == 1
    assert write_quarantine(engine, refused(value=value), "s") == 0
    assert math.isnan(read_quarantine(engine).value[0])


def test_nothing_refused(engine):
    empty = pd.DataFrame(columns=["session", "symbol", "value", "rule", "detail"])
    assert write_quarantine(engine, empty, "s") == 0
    assert read_quarantine(engine).shape == (0, 11)
