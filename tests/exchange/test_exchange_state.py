import sqlite3
from decimal import Decimal

import pytest

from mlt_lib.errors import DataError, SettingsError, StoreError
from mlt_lib.exchange import state as room
from mlt_lib.exchange.account import account, orders
from mlt_lib.exchange.auction import advance
from mlt_lib.exchange.orders import submit
from mlt_lib.exchange.state import now, open_state, plain, session_of, stamp, trading_hours, transaction
from mlt_lib.exchange.tape import Tape, prices_from


def short_tape(*days, symbol="AAPL"):
    return Tape(prices_from([symbol], [(day, ["100"]) for day in days], "test"))


def test_a_new_account_begins_with_its_cash_at_the_start(tmp_path, tape):
    state = open_state(tmp_path / "s.db", tape, "test", Decimal("1234.50"), start="2022-11-25")
    assert session_of(state) == "2022-11-25"
    assert account(state).cash == account(state).equity == account(state).last_equity == Decimal("1234.5")
    state.db.close()


def test_the_evening_is_after_alpaca_takes_closing_orders_again(state):
    assert now(state).isoformat() == "2022-11-22T19:30:00-05:00"
    assert stamp(now(state)) == "2022-11-23T00:30:00.000000Z"


def test_a_transaction_that_fails_changes_nothing(state):
    with pytest.raises(ZeroDivisionError), transaction(state):
        state.db.execute("update account set cash = '0'")
        _ = 1 / 0
    assert account(state).cash == 100_000


@pytest.mark.parametrize("cash", ["0", "-1", "NaN", "Infinity"])
def test_starting_cash_must_be_money(tmp_path, tape, cash):
    with pytest.raises(SettingsError, match="starting cash"):
        open_state(tmp_path / "s.db", tape, "test", Decimal(cash))


@pytest.mark.parametrize("bps", ["-1", "10000", "NaN"])
def test_slippage_must_be_possible(tmp_path, tape, bps):
    with pytest.raises(SettingsError, match="slippage"):
        open_state(tmp_path / "s.db", tape, "test", slippage_bps=Decimal(bps))


def test_a_start_that_is_no_session_is_refused_and_leaves_no_account(tmp_path, tape):
    with pytest.raises(DataError, match="2022-11-24.*runs from 2022-11-22 to 2022-11-30"):
        open_state(tmp_path / "s.db", tape, "test", start="2022-11-24")
    open_state(tmp_path / "s.db", tape, "test", start="2022-11-25").db.close()


def test_another_account_is_refused(tmp_path, tape):
    open_state(tmp_path / "s.db", tape, "mine").db.close()
    with pytest.raises(SettingsError, match="holds account 'mine', not 'yours'"):
        open_state(tmp_path / "s.db", tape, "yours")


def test_later_cash_and_start_do_not_touch_an_old_account(tmp_path, tape):
    open_state(tmp_path / "s.db", tape, "test", Decimal(500), start="2022-11-23").db.close()
    again = open_state(tmp_path / "s.db", tape, "test", Decimal(900), start="2022-11-28")
    assert (account(again).cash, session_of(again)) == (500, "2022-11-23")
    again.db.close()


def test_a_tape_that_ends_before_the_clock_is_refused(tmp_path, tape):
    open_state(tmp_path / "s.db", tape, "test", start="2022-11-28").db.close()
    with pytest.raises(DataError, match="clock of the account.*2022-11-28.*to 2022-11-25"):
        open_state(tmp_path / "s.db", short_tape("2022-11-23", "2022-11-25"), "test")


def test_a_tape_without_a_holding_is_refused(tmp_path, tape):
    state = open_state(tmp_path / "s.db", tape, "test")
    submit(state, "MSFT", "buy", Decimal(1), "cls")
    advance(state, "2022-11-23")
    state.db.close()
    with pytest.raises(DataError, match="no close up to 2022-11-23 for MSFT"):
        open_state(tmp_path / "s.db", short_tape("2022-11-22", "2022-11-23"), "test")


def test_a_longer_tape_with_another_past_keeps_the_fills(tmp_path, tape):
    state = open_state(tmp_path / "s.db", tape, "test")
    submit(state, "AAPL", "buy", Decimal(1), "cls", "one")
    advance(state, "2022-11-23")
    state.db.close()
    again = open_state(tmp_path / "s.db", short_tape("2022-11-23", "2022-11-25", "2022-12-01"), "test")
    assert orders(again)[0].fill_price == Decimal("151.07")
    assert account(again).long_value == 100
    advance(again, "2022-12-01")
    again.db.close()


def test_one_process_holds_the_file(tmp_path, tape, monkeypatch):
    monkeypatch.setattr(room, "LOCK_PATIENCE_SECONDS", 0.1)
    first = open_state(tmp_path / "s.db", tape, "test")
    with pytest.raises(StoreError, match="in use by another exchange process"):
        open_state(tmp_path / "s.db", tape, "test")
    first.db.close()
    open_state(tmp_path / "s.db", tape, "test").db.close()


def test_files_of_others_are_left_alone(tmp_path, tape):
    path = tmp_path / "s.db"
    path.write_text("this is a diary, not a database, and it is long enough to be read as a header")
    with pytest.raises(StoreError, match="can't be opened"):
        open_state(path, tape, "test")
    assert path.read_text().startswith("this is a diary")
    with pytest.raises(StoreError, match="can't be opened"):
        open_state(tmp_path / "no folder" / "s.db", tape, "test")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table diary (day)")
    with pytest.raises(StoreError, match="something else"):
        open_state(tmp_path / "other.db", tape, "test")


def test_a_newer_state_is_refused(tmp_path, tape):
    state = open_state(tmp_path / "s.db", tape, "test")
    state.db.execute("pragma user_version = 99")
    state.db.close()
    with pytest.raises(StoreError, match="version 99, this exchange reads 1"):
        open_state(tmp_path / "s.db", tape, "test")


def test_the_file_is_synchronous_and_exclusive(state):
    pragma = {name: state.db.execute(f"pragma {name}").fetchone()[0] for name in ("synchronous", "locking_mode")}
    assert pragma == {"synchronous": 2, "locking_mode": "exclusive"}


def test_hours_know_the_short_friday():
    opens, closes = trading_hours("2022-11-25")
    assert (opens.isoformat(), closes.isoformat()) == ("2022-11-25T09:30:00-05:00", "2022-11-25T13:00:00-05:00")


@pytest.mark.parametrize(
    ("number", "text"), [("0E-9", "0"), ("1E+3", "1000"), ("10.500", "10.5"), ("-0.0100", "-0.01")]
)
def test_decimals_are_plain(number, text):
    assert plain(Decimal(number)) == text
