"The two types of our own: exact amounts and moments without doubt."

import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite

from mlt_lib.errors import StoreError
from mlt_lib.store.schema import DecimalText, Record, UtcTime, utc_text

LITE, POST = sqlite.dialect(), postgresql.dialect()
zones = st.sampled_from(
    [dt.UTC, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata"), dt.timezone(dt.timedelta(hours=-11))]
)
moments = st.datetimes(dt.datetime(1900, 1, 2), dt.datetime(2200, 1, 1), timezones=zones)
modest = settings(max_examples=100, deadline=None)


@modest
@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_an_amount_comes_back_digit_for_digit(amount):
    kept = DecimalText().process_bind_param(amount, LITE)
    assert "E" not in kept
    assert DecimalText().process_result_value(kept, LITE) == amount


@pytest.mark.parametrize("bad", [0.1, 1, "1.0", Decimal("NaN"), Decimal("Infinity"), Decimal("sNaN"), True])
def test_what_is_no_exact_amount_is_refused(bad):
    with pytest.raises(StoreError, match="give a finite Decimal"):
        DecimalText().process_bind_param(bad, LITE)


@modest
@given(moments)
def test_a_moment_comes_back_in_utc(moment):
    kept = UtcTime().process_bind_param(moment, LITE)
    back = UtcTime().process_result_value(kept, LITE)
    assert back == moment.astimezone(dt.UTC) and back.utcoffset() == dt.timedelta(0)


@modest
@given(moments, moments)
def test_text_order_is_time_order(one, other):
    assert (utc_text(one) < utc_text(other)) == (one.astimezone(dt.UTC) < other.astimezone(dt.UTC))
    assert len(utc_text(one)) == 27


@pytest.mark.parametrize("dialect", [LITE, POST], ids=["sqlite", "postgresql"])
def test_a_naive_time_is_refused(dialect):
    with pytest.raises(StoreError, match="has no time zone"):
        UtcTime().process_bind_param(dt.datetime(2022, 12, 28, 16), dialect)


def test_nothing_stays_nothing():
    for kind in (DecimalText(), UtcTime()):
        assert kind.process_bind_param(None, LITE) is None
        assert kind.process_result_value(None, LITE) is None


def test_postgresql_gets_its_own_time_type():
    moment = dt.datetime(2022, 12, 28, 16, tzinfo=ZoneInfo("America/New_York"))
    assert UtcTime().process_bind_param(moment, POST) == moment
    assert "TIMESTAMP WITH TIME ZONE" in str(UtcTime().load_dialect_impl(POST).compile(dialect=POST))


def test_the_tables_agreed_on_are_there():
    assert set(Record.metadata.tables) == {
        *("instruments", "bars", "quarantine", "runs", "decisions", "signals", "target_weights", "order_intents"),
        *("orders", "fills", "positions", "performance", "audit_events", "actions", "minute_bars", "quotes", "news"),
        *("posts", "fundamentals", "features", "fetches", "model_runs", "dead_letters"),
    }
