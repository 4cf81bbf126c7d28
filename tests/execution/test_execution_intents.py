"Ids follow from what an order is for; checks say every reason; steps and leases do what they say."

import multiprocessing as mp
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_broker import END, NOW, SLOT, make_facts, make_intent

from mlt_lib.errors import BrokerError, DataError, OrderError, SettingsError
from mlt_lib.execution.checks import CHECKS, check, opening_quantity
from mlt_lib.execution.intents import client_order_id, intents_from, payload_hash, plain
from mlt_lib.execution.lease import gateway_lease
from mlt_lib.execution.steps import LABELS, Crash, crash_point, crashing, listening, reached

KEY = ("simulated:demo", "demo", "ensemble", SLOT, "KO", 0, 0)
TEXT = st.text(max_size=8)
KEYS = st.tuples(TEXT, TEXT, TEXT, st.dates(date(1990, 1, 1)), TEXT, st.integers(0, 99), st.integers(0, 99))


def trade(symbol="KO", side="buy", quantity="10"):
    return SimpleNamespace(
        symbol=symbol, side=side, quantity=Decimal(quantity), price=Decimal("63.92"), from_weight=0.1, to_weight=0.2
    )


# --- ids --------------------------------------------------------------------------------------------------------------


@given(KEYS, KEYS)
def test_an_id_is_its_key(one, other):
    assert (client_order_id(*one) == client_order_id(*other)) == (one == other)


def test_the_id_of_a_key_never_changes():
    "A release that changed it would send last night's orders again."
    assert client_order_id(*KEY) == "mlt-febad6e82e9f13d40959160a218d28a5"
    assert len(client_order_id(*KEY)) == 36


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=0, max_value=10**12))
def test_plain_text_is_the_number(number):
    assert Decimal(plain(number)) == number and "E" not in plain(number)
    same = (number.normalize(), number * Decimal("1.000"))
    assert {payload_hash("buy", n, "market", "cls") for n in same} == {payload_hash("buy", number, "market", "cls")}


def test_every_part_of_the_payload_is_in_its_hash():
    base = ("buy", Decimal(1), "market", "cls", None)
    changes = [("sell",), ("buy", Decimal(2)), ("buy", Decimal(1), "limit"), ("buy", Decimal(1), "market", "opg")]
    others = [(*change, *base[len(change) :]) for change in changes] + [(*base[:4], Decimal(5))]
    assert len({payload_hash(*p) for p in [base, *others]}) == 6


def test_intents_say_until_when_they_are_worth_sending():
    close = intents_from([trade()], "simulated", "demo", "demo", "ensemble", SLOT)[0]
    assert (close.time_in_force, close.valid_until) == ("cls", datetime(2022, 12, 29, 21, tzinfo=UTC))
    opening = intents_from([trade()], "simulated", "demo", "demo", "ensemble", SLOT, "next_open")[0]
    assert (opening.time_in_force, opening.valid_until) == ("opg", datetime(2022, 12, 29, 14, 30, tzinfo=UTC))
    early = intents_from([trade()], "simulated", "demo", "demo", "ensemble", date(2022, 11, 23))[0]
    assert early.valid_until == datetime(2022, 11, 25, 18, tzinfo=UTC), "the day after Thanksgiving closes at 13:00"
    assert (close.value, close.signed_quantity, replace(close, side="sell").signed_quantity) == (
        Decimal("639.20"),
        Decimal(10),
        Decimal(-10),
    )


@pytest.mark.parametrize(
    ("trades", "session", "fill", "error"),
    [
        ([trade()], SLOT, "now", SettingsError),
        ([trade()], date(2022, 12, 25), "next_close", DataError),
        ([trade(), trade(side="sell")], SLOT, "next_close", OrderError),
    ],
)
def test_what_can_not_become_intents_is_refused(trades, session, fill, error):
    with pytest.raises(error):
        intents_from(trades, "simulated", "demo", "demo", "ensemble", session, fill)


# --- checks -----------------------------------------------------------------------------------------------------------

ORDER, FACTS = make_intent(), make_facts()
DENIALS = {
    "submit_off": (ORDER, replace(FACTS, submit=False)),
    "quantity": (replace(ORDER, quantity=Decimal("1.5")), FACTS),
    "max_order_usd": (replace(ORDER, quantity=Decimal(834)), FACTS),
    "not_tradable": (replace(ORDER, symbol="KOO"), FACTS),
    "stale_decision": (ORDER, replace(FACTS, session=date(2022, 12, 29))),
    "past_valid_until": (ORDER, replace(FACTS, now=END)),
    "buying_power": (ORDER, replace(FACTS, buying_power=Decimal("617.99"))),
    "limit_breached": (ORDER, replace(FACTS, breached=("drawdown",))),
}


def test_every_check_is_in_the_table():
    assert {*DENIALS} == {*CHECKS, "quantity"}
    assert check(ORDER, FACTS) == []


@pytest.mark.parametrize("code", DENIALS)
def test_each_reason_by_itself(code):
    denials = check(*DENIALS[code])
    assert [denial.code for denial in denials] == [code]
    assert str(denials[0]).startswith(f"{code}: ")


@pytest.mark.parametrize("bad", ["NaN", "sNaN", "Infinity", "-Infinity", "-5", "0", "0.1"])
def test_no_insane_quantity_passes(bad):
    assert [d.code for d in check(replace(ORDER, quantity=Decimal(bad)), FACTS)] == ["quantity"]


def test_a_price_that_is_none_is_no_value():
    assert [d.code for d in check(replace(ORDER, reference_price=Decimal(0)), FACTS)] == ["max_order_usd"]


def test_bounds_are_inclusive():
    assert check(replace(ORDER, quantity=Decimal(100), reference_price=Decimal(500)), FACTS) == []
    assert check(ORDER, replace(FACTS, buying_power=Decimal(618))) == []
    assert check(ORDER, replace(FACTS, now=END.replace(hour=20, minute=59))) == []


SHARES = st.integers(-1000, 1000).map(Decimal)


@given(SHARES, st.integers(1, 2000).map(Decimal), st.sampled_from(["buy", "sell"]))
def test_what_an_order_opens_and_what_it_closes_make_the_order(held, quantity, side):
    order = replace(ORDER, side=side, quantity=quantity)
    opened, after = opening_quantity(order, held), held + order.signed_quantity
    closed = abs(held) if held * after < 0 else max(Decimal(0), abs(held) - abs(after))
    assert opened + closed == quantity and opened >= 0
    shrinks = abs(after) < abs(held) and held * after >= 0
    assert (check(order, replace(FACTS, breached=("drawdown",), holdings={"KO": held})) == []) == shrinks or (
        order.value > FACTS.max_order_usd
    )


# --- steps ------------------------------------------------------------------------------------------------------------


def test_nothing_happens_by_itself():
    for label in LABELS:
        reached(label)


def test_a_crash_is_no_exception_and_leaves_no_listener():
    with pytest.raises(Crash, match="after_post:2"), crashing("after_post", 2):
        try:
            for _ in range(5):
                reached("after_post")
        except Exception:
            pytest.fail("a crash must not be handled")
    heard = []
    with listening(heard.append):
        reached("after_post")
    assert heard == ["after_post"]


@pytest.mark.parametrize("text", ["nowhere", "after_post:0", "after_post:x", "after_post:-1", ":2"])
def test_a_drill_that_can_not_happen_is_refused(text, monkeypatch):
    with pytest.raises(SettingsError, match="MLT_CRASH_AT"):
        crash_point(text)
    monkeypatch.setenv("MLT_CRASH_AT", text)
    with pytest.raises(SettingsError):
        reached("before_decision")


def test_the_environment_kills_at_the_nth_time(monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda *call: killed.append(call))
    monkeypatch.setenv("MLT_CRASH_AT", "inside_fills:2")
    for label in ("inside_fills", "after_fills", "inside_fills", "inside_fills"):
        reached(label)
    assert killed == [(os.getpid(), signal.SIGKILL)]


# --- lease ------------------------------------------------------------------------------------------------------------


def _hold(path, ready):
    with gateway_lease(path):
        ready.set()
        time.sleep(60)


def test_a_second_gateway_waits_and_is_told_who_is_in(tmp_path):
    path = tmp_path / "state" / "demo.gateway.lock"
    context = mp.get_context("fork")
    ready = context.Event()
    first = context.Process(target=_hold, args=(path, ready))
    first.start()
    try:
        assert ready.wait(10)
        with pytest.raises(BrokerError, match=r"another gateway holds demo\.gateway\.lock"), gateway_lease(path, 0.2):
            pytest.fail("two gateways")
    finally:
        first.kill()
        first.join()
    with gateway_lease(path, 2):
        pass  # a killed holder leaves nothing to clear away


def test_a_lease_that_can_not_be_taken_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="can't be taken"), gateway_lease(tmp_path / "file" / "x.lock", 0.1):
        pytest.fail("no folder")


def test_importing_the_order_path_leaves_the_broker_library_alone():
    code = "import sys, mlt_lib.execution.gateway, mlt_lib.execution.lease; print([m for m in sys.modules if 'alpaca' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


assert NOW < END
