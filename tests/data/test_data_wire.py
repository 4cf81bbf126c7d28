"What failures and single values become, whatever the other side writes."

import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.data.answers import LARGEST, combined, day, moments, newest_session, numbers, raw_json, words
from mlt_lib.data.wire import LONGEST_WAIT, complaint, decoded, is_loopback, refusal, said, unreachable, wait_seconds
from mlt_lib.errors import SourceError

NOON = datetime(2022, 1, 3, 12, tzinfo=UTC)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["Retry-After", "x-ratelimit-reset", "X-RateLimit-Reset"]),
        st.text(max_size=30) | st.floats().map(str),
    )
)
def test_a_wait_is_between_nothing_and_an_hour(headers):
    wait = wait_seconds(headers, NOON)
    assert wait is None or 0 <= wait <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("headers", "wait"),
    [({"RETRY-AFTER": "7"}, 7), ({"retry-after": "Mon, 03 Jan 2022 12:00:30 GMT"}, 30), ({"X-Ratelimit-Reset": "1641211245"}, 45),
     ({"x-ratelimit-reset": "599"}, 599), ({"retry-after": "Mon, 03 Jan 2022 11:00:00 GMT"}, 0), ({"retry-after": "999999"}, 3600),
     ({"retry-after": "soon", "x-ratelimit-reset": "3"}, 3), ({"retry-after": "soon"}, None), ({}, None)],
)  # fmt: skip
def test_waits_as_vendors_write_them(headers, wait):
    assert wait_seconds(headers, NOON) == wait


@settings(max_examples=60, deadline=None)
@given(st.integers(300, 599), anything)
def test_a_refusal_is_one_short_line_without_the_secret(status, message):
    error = refusal("vendor", status, {"m": message, "k": "s3cret"}, {}, NOON, "VENDOR_KEY", ("s3cret",))
    line = str(error)
    assert line.isprintable() and len(line) < 300 and "s3cret" not in line and line.endswith(".")
    assert error.again == (status in (408, 425, 429) or status >= 500)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60) | anything.map(lambda value: json.dumps(value).encode()))
def test_a_body_is_json_or_one_error(body):
    assert isinstance(complaint(body), str)
    try:
        decoded("vendor", body)
    except SourceError as error:
        assert error.again and str(error).isprintable()


def test_what_cannot_be_shown_is_named():
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    assert "can't be shown" in said(deep) and "can't be shown" in said(10**5000) and "can't" not in said("fine")
    assert json.loads(raw_json(deep)) and json.loads(raw_json({"n": 10**5000}))


@pytest.mark.parametrize(
    ("error", "again", "part"),
    [(TimeoutError("x"), True, "in time"), (ConnectionResetError("x"), True, "broke off"), (type("SSLError", (OSError,), {})("x"), False, "certificate")],
)  # fmt: skip
def test_broken_lines_say_whether_to_ask_again(error, again, part):
    told = unreachable("vendor", error)
    assert told.again == again and part in str(told)


@settings(max_examples=80, deadline=None)
@given(st.lists(anything | st.sampled_from([1e12, -1e12, 10**400, True])))
def test_numbers_are_finite_or_nan_and_every_strange_value_is_marked(values):
    found, bad = numbers(values)
    assert len(found) == len(bad) == len(values)
    assert (np.isnan(found) | (np.abs(found) < LARGEST)).all()
    for value, number, strange in zip(values, found, bad, strict=True):
        plain = type(value) in (int, float) and abs(value) < LARGEST
        assert strange == (value is not None and not plain) and math.isnan(number) == (not plain)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(anything | st.datetimes().map(lambda moment: moment.isoformat() + "Z") | st.integers(-(10**12), 10**12))
)
def test_moments_are_in_our_century_or_nat(values):
    found = moments(values)
    assert len(found) == len(values) and str(found.dtype) == "datetime64[us, UTC]"
    good = found[found.notna()]
    assert ((good >= "1970-01-01") & (good < "2100-01-01")).all()


@settings(max_examples=60, deadline=None)
@given(st.datetimes(datetime(1970, 1, 2), datetime(2099, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_a_moment_is_the_same_in_every_zone(moment, minutes):
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    local = (moment + timedelta(minutes=minutes)).isoformat(timespec="microseconds")
    (found,) = moments([f"{local}{sign}{hours:02}:{rest:02}"])
    assert found == pd.Timestamp(moment, tz="UTC")


@settings(max_examples=60, deadline=None)
@given(anything)
def test_days_and_texts_take_anything(value):
    assert day(value) is None or isinstance(day(value), pd.Timestamp)
    text = words(value)
    assert text is None or ("\0" not in text and text.encode("utf-8").decode("utf-8") == text)
    json.loads(raw_json(value), parse_constant=lambda name: pytest.fail(name))


def test_half_a_surrogate_pair_becomes_a_question_mark():
    assert words("up \ud83d\0") == "up ?�"


@pytest.mark.parametrize(
    ("moment", "session"),
    [("2022-11-25 18:19Z", "2022-11-23"), ("2022-11-25 18:20Z", "2022-11-25"), ("2022-11-28 03:00Z", "2022-11-25"),
     ("2022-11-28 21:19Z", "2022-11-25"), ("2022-11-28 21:20Z", "2022-11-28"), ("2022-11-29 04:59Z", "2022-11-28")],
)  # fmt: skip
def test_the_newest_session_is_the_last_that_is_over(moment, session):
    assert newest_session(pd.Timestamp(moment)) == pd.Timestamp(session)


def test_actions_of_one_day_add_and_multiply():
    at = pd.Timestamp("2020-12-01")
    table = combined(
        [("KO", at, "dividend", 0.5), ("KO", at, "dividend", 1.5), ("KO", at, "split", 2.0), ("KO", at, "split", 1.5)]
    )
    assert dict(zip(table["kind"], table["value"], strict=True)) == {"dividend": 2.0, "split": 3.0}
    assert combined([]).empty


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.9", True),
        ("http://localhost:1/x", True),
        ("http://[::1]:2", True),
        ("https://10.0.0.1", False),
        ("https://127.0.0.1.example.com", False),
    ],
)
def test_loopback_is_this_machine_only(url, local):
    assert is_loopback(url) == local
