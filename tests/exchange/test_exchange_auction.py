import tempfile
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError
from mlt_lib.exchange import auction
from mlt_lib.exchange.account import account, fills, orders, positions
from mlt_lib.exchange.auction import advance, fill_price
from mlt_lib.exchange.orders import Refused, cancel, submit
from mlt_lib.exchange.state import open_state, session_of
from mlt_lib.exchange.tape import Tape, prices_from


def test_a_closing_order_pays_the_next_close_and_slippage(state):
    submit(state, "AAPL", "buy", Decimal(100), "cls")
    [order] = advance(state, "2022-11-23")
    assert (order.status, order.fill_price, order.closed_at) == (
        "filled",
        Decimal("151.2211"),
        "2022-11-23T21:00:00.000000Z",
    )
    assert account(state).cash == 100_000 - 100 * Decimal("151.2211")
    assert fills(state)[0].reference_price == Decimal("151.07")


def test_a_sale_gets_less(state):
    submit(state, "AAPL", "sell", Decimal(100), "cls")
    [order] = advance(state, "2022-11-23")
    assert order.fill_price == Decimal("150.9189")
    assert account(state).short_value == -15_107 and positions(state)[0].quantity == -100


def test_an_opening_order_pays_the_next_open(state):
    submit(state, "AAPL", "buy", Decimal(1), "opg")
    [order] = advance(state, "2022-11-23")
    assert (order.fill_price, order.closed_at) == (Decimal("149.5994"), "2022-11-23T14:30:00.000000Z")


def test_a_short_day_closes_at_one(state):
    submit(state, "AAPL", "buy", Decimal("0.5"), "day")
    [order] = advance(state, "2022-11-25")
    assert order.closed_at == "2022-11-23T21:00:00.000000Z"  # the first session on the way, not the last
    submit(state, "AAPL", "buy", Decimal("0.5"), "day")
    with pytest.raises(Refused):
        advance(state, "2022-11-23")
    assert session_of(state) == "2022-11-25"


def test_without_a_price_the_order_expires(state):
    advance(state, "2022-11-25")
    submit(state, "MSFT", "buy", Decimal(1), "cls")
    submit(state, "MSFT", "buy", Decimal(1), "opg")
    by_close, by_open = advance(state, "2022-11-28")
    assert (by_close.status, by_close.fill_price, by_open.status) == ("expired", None, "filled")
    assert positions(state)[0].price == Decimal("247.49")  # marked at the last close known by then


def test_the_same_session_again_is_a_no_op_and_keeps_the_clock(state):
    submit(state, "AAPL", "buy", Decimal(1), "cls")
    advance(state, "2022-11-23")
    submit(state, "AAPL", "buy", Decimal(1), "cls")
    before = (account(state), orders(state), state.db.execute("select * from account").fetchone()["events"])
    assert advance(state, "2022-11-23") == []
    assert (account(state), orders(state), state.db.execute("select * from account").fetchone()["events"]) == before


@pytest.mark.parametrize(
    ("session", "status"), [("2022-11-22", 409), ("2022-11-24", 422), ("2022-12-01", 422), ("", 422)]
)
def test_the_clock_goes_forward_along_the_tape(state, session, status):
    advance(state, "2022-11-23")
    with pytest.raises(Refused) as refused:
        advance(state, session)
    assert refused.value.status == status and session_of(state) == "2022-11-23"


def test_a_kill_in_the_middle_leaves_all_as_it_was(state, monkeypatch):
    submit(state, "AAPL", "buy", Decimal(1), "cls")
    submit(state, "MSFT", "buy", Decimal(1), "cls")
    before = (account(state), orders(state), fills(state), session_of(state))
    moved = auction._move_position
    monkeypatch.setattr(
        auction, "_move_position", lambda s, order, price: moved(s, order, price) if order.number == 1 else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        advance(state, "2022-11-23")
    assert (account(state), orders(state), fills(state), session_of(state)) == before


def test_a_tape_with_a_saturday_is_caught_when_something_is_to_fill(tmp_path):
    tape = Tape(prices_from(["A"], [("2022-12-23", ["1"]), ("2022-12-24", ["1"])], "test"))
    state = open_state(tmp_path / "s.db", tape, "test")
    submit(state, "A", "buy", Decimal(1), "cls")
    with pytest.raises(DataError, match="2022-12-24"):
        advance(state, "2022-12-24")
    assert session_of(state) == "2022-12-23"
    state.db.close()


@pytest.mark.parametrize(
    ("price", "slippage", "buys", "sells"), [("0.0001", "0.5", "0.0002", "0.0001"), ("10", "0", "10", "10")]
)
def test_a_fill_never_costs_nothing(price, slippage, buys, sells):
    assert fill_price(Decimal(price), "buy", Decimal(slippage)) == Decimal(buys)
    assert fill_price(Decimal(price), "sell", Decimal(slippage)) == Decimal(sells)


def test_a_position_grows_shrinks_and_goes(state):
    seen = []
    for session, side, quantity in (
        ("2022-11-23", "buy", 30),
        ("2022-11-25", "buy", 10),
        ("2022-11-28", "sell", 20),
        ("2022-11-29", "sell", 20),
    ):
        submit(state, "AAPL", side, Decimal(quantity), "cls")
        advance(state, session)
        seen += [[(position.quantity, position.cost) for position in positions(state)]]
    cost = 30 * Decimal("151.2211") + 10 * Decimal("148.2581")
    assert seen == [[(30, 30 * Decimal("151.2211"))], [(40, cost)], [(20, cost / 2)], []]
    spent = cost - 20 * Decimal("144.0758") - 20 * Decimal("141.0288")
    assert account(state).cash == account(state).equity == 100_000 - spent


# One account over random days, against books kept independently in fractions.

SESSIONS = (
    "2022-12-19",
    "2022-12-20",
    "2022-12-21",
    "2022-12-22",
    "2022-12-23",
    "2022-12-27",
    "2022-12-28",
    "2022-12-29",
)
price = st.one_of(st.none(), st.decimals("0.01", "900", places=3))
day = st.tuples(price, price)
order = st.tuples(
    st.sampled_from("AB"),
    st.sampled_from(["buy", "sell"]),
    st.one_of(st.integers(1, 400), st.decimals("0.000000001", "30", places=9), st.just("all of it")),
    st.sampled_from(["cls", "day", "opg"]),
    st.booleans(),  # cancel it again
)
evening = st.tuples(st.lists(order, max_size=5), st.integers(1, 2))


def tape_of(closes, opens):
    def text(rows):
        return zip(SESSIONS, [["" if p is None else str(p) for p in row] for row in rows], strict=True)

    return Tape(prices_from(["A", "B"], text(closes), "closes"), prices_from(["A", "B"], text(opens), "opens"))


class Books:
    "Cash and shares, added up from what was told, with nothing of the exchange in it."

    def __init__(self, cash):
        self.cash, self.shares = Fraction(cash), {"A": Fraction(0), "B": Fraction(0)}

    def worth(self, tape, session):
        return self.cash + sum(q * Fraction(tape.mark(session, s)) for s, q in self.shares.items() if q)


@given(
    closes=st.lists(day, min_size=len(SESSIONS), max_size=len(SESSIONS)),
    opens=st.lists(day, min_size=len(SESSIONS), max_size=len(SESSIONS)),
    evenings=st.lists(evening, min_size=1, max_size=5),
    bps=st.integers(0, 300),
)
@settings(deadline=None, max_examples=40)
def test_equity_moves_with_prices_and_slippage_and_nothing_else(closes, opens, evenings, bps):
    trade(closes, opens, evenings, bps)


def trade(closes, opens, evenings, bps):
    tape, books, name = tape_of(closes, opens), Books(50_000), 0
    with tempfile.TemporaryDirectory() as folder:
        state = open_state(Path(folder) / "s.db", tape, "test", Decimal(50_000), slippage_bps=Decimal(bps))
        for sent, step in evenings:
            waiting = []
            for symbol, side, quantity, tif, withdraw in sent:
                name += 1
                if quantity == "all of it" and books.shares[symbol]:
                    side = "sell" if books.shares[symbol] > 0 else "buy"
                    quantity = next(p.quantity for p in positions(state) if p.symbol == symbol).copy_abs()
                quantity = 1 if quantity == "all of it" else quantity
                try:
                    accepted = submit(state, symbol, side, Decimal(str(quantity)), tif, str(name))
                except Refused:
                    continue
                waiting += [] if withdraw and cancel(state, accepted.id) else [accepted]
            here = SESSIONS.index(session_of(state))
            target = min(here + step, len(SESSIONS) - 1)
            worth, held = books.worth(tape, SESSIONS[here]), dict(books.shares)
            settled = advance(state, SESSIONS[target])
            assert [o.id for o in settled] == ([o.id for o in waiting] if target > here else [])
            slippage = Fraction(0)
            for done in settled:
                table = tape.opens if done.time_in_force == "opg" else tape.closes
                reference = table.at(SESSIONS[here + 1], done.symbol)
                assert done.status == ("filled" if reference is not None else "expired")
                if reference is None:
                    continue
                paid = Fraction(done.fill_price)
                ideal = Fraction(reference) * (1 + Fraction(bps, 10_000) * (1 if done.side == "buy" else -1))
                assert abs(paid - ideal) <= Fraction(1, 10_000)
                books.cash -= Fraction(done.signed) * paid
                books.shares[done.symbol] += Fraction(done.signed)
                slippage += Fraction(done.signed) * (paid - Fraction(tape.mark(SESSIONS[target], done.symbol)))
            seen = account(state)
            assert Fraction(seen.cash) == books.cash
            assert {p.symbol: Fraction(p.quantity) for p in positions(state)} == {
                s: q for s, q in books.shares.items() if q
            }
            assert Fraction(seen.equity) == books.worth(tape, SESSIONS[target])
            moves = sum(
                q * (Fraction(tape.mark(SESSIONS[target], s)) - Fraction(tape.mark(SESSIONS[here], s)))
                for s, q in held.items()
                if q
            )
            assert Fraction(seen.equity) == worth + moves - slippage
            if target > here:
                before = books.worth(tape, SESSIONS[target - 1]) if target > here + 1 else worth
                assert Fraction(seen.last_equity) == before
        assert sum((f.quantity for f in fills(state)), Decimal(0)) == sum(
            (o.quantity for o in orders(state) if o.status == "filled"), Decimal(0)
        )
        assert len({f.order_id for f in fills(state)}) == len(fills(state))
        again = (account(state), orders(state), fills(state), positions(state))
        state.db.close()
        reopened = open_state(Path(folder) / "s.db", tape, "test")
        assert (account(reopened), orders(reopened), fills(reopened), positions(reopened)) == again
        reopened.db.close()


@pytest.mark.parametrize("theft", ["a cent", "a share", "a slippage"])
def test_the_independent_books_notice(monkeypatch, theft):
    prices = [(Decimal(100 + row), Decimal(50)) for row in range(len(SESSIONS))]
    evenings = [
        ([("A", "buy", 10, "cls", False), ("B", "sell", 5, "opg", False)], 2),
        ([("A", "sell", 4, "day", False)], 1),
    ]
    trade(prices, prices, evenings, 10)
    booked = auction._book

    def steal(state, order, reference, session, at):
        booked(
            replace(state, slippage=Decimal("0.01")) if theft == "a slippage" else state, order, reference, session, at
        )
        if theft == "a cent":
            state.db.execute("update account set cash = cast(cash as real) - 0.01")
        if theft == "a share":
            state.db.execute("update positions set quantity = cast(cast(quantity as integer) + 1 as text)")

    monkeypatch.setattr(auction, "_book", steal)
    with pytest.raises(AssertionError):
        trade(prices, prices, evenings, 10)
