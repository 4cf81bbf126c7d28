from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.exchange.account import account, find_order, orders
from mlt_lib.exchange.auction import advance
from mlt_lib.exchange.orders import Refused, cancel, submit
from mlt_lib.exchange.state import open_state
from mlt_lib.exchange.tape import read_tape


def refusal(state, *terms):
    before = len(orders(state))
    with pytest.raises(Refused) as refused:
        submit(state, *terms)
    assert len(orders(state)) == before
    return refused.value


def test_an_order_is_accepted_and_found_by_either_id(state):
    order = submit(state, "AAPL", "buy", Decimal(10), "cls", "mine")
    assert (order.status, order.submitted_at) == ("accepted", "2022-11-23T00:30:00.001000Z")
    assert find_order(state, id=order.id) == find_order(state, client_order_id="mine") == order


def test_an_order_without_an_id_gets_one(state):
    first, second = (submit(state, "AAPL", "buy", Decimal(1), "cls") for _ in range(2))
    assert len({first.id, second.id, first.client_order_id, second.client_order_id}) == 4


@pytest.mark.parametrize("end", ["waiting", "canceled", "filled", "another session"])
def test_a_client_order_id_is_unique_for_ever(state, end):
    order = submit(state, "AAPL", "buy", Decimal(1000), "cls", "mine")  # leaves too little buying power for a second
    if end == "canceled":
        cancel(state, order.id)
    if end in ("filled", "another session"):
        advance(state, "2022-11-23" if end == "filled" else "2022-11-29")
    refused = refusal(state, "AAPL", "buy", Decimal(1000), "cls", "mine")
    assert (refused.status, refused.code, str(refused)) == (422, 40010001, "client_order_id must be unique")


@pytest.mark.parametrize(
    ("terms", "status", "code", "message"),
    [
        (("NOPE", "buy", "1", "cls"), 422, 42210000, 'asset "NOPE" not found'),
        (("NEWCO", "buy", "1", "cls"), 422, 42210000, "not tradable: no close up to 2022-11-22"),
        (("AAPL", "hold", "1", "cls"), 422, 42210000, "side"),
        (("AAPL", "buy", "0", "cls"), 422, 42210000, "qty must be > 0"),
        (("AAPL", "buy", "-5", "cls"), 422, 42210000, "qty must be > 0"),
        (("AAPL", "buy", "NaN", "cls"), 422, 42210000, "qty must be > 0"),
        (("AAPL", "buy", "Infinity", "day"), 422, 42210000, "qty must be > 0"),
        (("AAPL", "buy", "1", "gtc"), 422, 42210000, "'gtc' is not simulated"),
        (("AAPL", "buy", "0.5", "cls"), 422, 42210000, "fractional orders must be DAY"),
        (("AAPL", "buy", "0.5", "opg"), 422, 42210000, "fractional orders must be DAY"),
        (("AAPL", "buy", "0.1234567891", "day"), 422, 42210000, "at most 9 decimal places"),
        (("AAPL", "sell", "0.5", "day"), 422, 42210000, "cannot be sold short"),
        (("AAPL", "buy", "1", "cls", "x" * 49), 422, 42210000, "no more than 48 characters"),
        (("AAPL", "buy", "1293", "cls"), 403, 40310000, "insufficient buying power"),
        (("AAPL", "sell", "1293", "cls"), 403, 40310000, "insufficient buying power"),
        (("AAPL", "buy", "1e30", "cls"), 403, 40310000, "insufficient buying power"),
    ],
)
def test_refusals_have_alpacas_codes(state, terms, status, code, message):
    symbol, side, quantity, *rest = terms
    refused = refusal(state, symbol, side, Decimal(quantity), *rest)
    assert (refused.status, refused.code) == (status, code) and message in str(refused)


def test_buying_power_is_twice_the_equity_to_the_last_share(state):
    assert (
        submit(state, "AAPL", "buy", Decimal(1292), "cls").status == "accepted"
    )  # 1292 * 1.03 * 150.18 = 199,853.5368
    refused = refusal(state, "MSFT", "buy", Decimal(1), "cls")
    assert refused.detail == {"buying_power": "146.4632", "cost_basis": "252.3809"}
    assert account(state).buying_power == Decimal("146.4632")


def test_a_canceled_order_gives_its_buying_power_back(state):
    order = submit(state, "AAPL", "buy", Decimal(1292), "cls")
    cancel(state, order.id)
    assert account(state).buying_power == 200_000


def test_an_open_sale_frees_no_buying_power_and_a_reduction_needs_none(state):
    submit(state, "AAPL", "buy", Decimal(1200), "cls")
    advance(state, "2022-11-23")
    before = account(state).buying_power
    submit(state, "AAPL", "sell", Decimal(1200), "cls")
    assert account(state).buying_power == before


def test_more_than_is_held_cannot_be_sold(state):
    submit(state, "AAPL", "buy", Decimal(10), "cls")
    advance(state, "2022-11-23")
    submit(state, "AAPL", "sell", Decimal(6), "cls")
    refused = refusal(state, "AAPL", "sell", Decimal(5), "cls")
    assert (refused.status, refused.code) == (403, 40310000)
    assert refused.detail == {"available": "4", "existing_qty": "10", "held_for_orders": "6", "symbol": "AAPL"}
    assert submit(state, "AAPL", "sell", Decimal(4), "cls").status == "accepted"


def test_a_short_is_covered_but_not_turned_around(state):
    submit(state, "AAPL", "sell", Decimal(10), "cls")
    advance(state, "2022-11-23")
    assert refusal(state, "AAPL", "buy", Decimal(11), "cls").detail["available"] == "10"
    assert submit(state, "AAPL", "buy", Decimal(10), "cls").status == "accepted"


def test_the_other_side_of_a_waiting_order_is_a_wash_trade(state):
    waiting = submit(state, "AAPL", "buy", Decimal(10), "cls")
    refused = refusal(state, "AAPL", "sell", Decimal(1), "cls")
    assert (refused.status, refused.code, refused.detail["existing_order_id"]) == (403, 40310000, waiting.id)


def test_opening_orders_need_opening_prices(tmp_path, tape_file):
    state = open_state(tmp_path / "closes only.db", read_tape(tape_file), "test")
    assert "opg orders need opening prices" in str(refusal(state, "AAPL", "buy", Decimal(1), "opg"))
    state.db.close()


def test_only_a_waiting_order_can_be_canceled(state):
    order = submit(state, "AAPL", "buy", Decimal(10), "cls")
    assert cancel(state, order.id).status == "canceled"
    with pytest.raises(Refused, match='already in "canceled" state') as refused:
        cancel(state, order.id)
    assert (refused.value.status, refused.value.code) == (422, 42210000)
    with pytest.raises(Refused, match="order not found") as refused:
        cancel(state, "nobody")
    assert (refused.value.status, refused.value.code) == (404, 40410000)
    assert advance(state, "2022-11-23") == []


def test_orders_are_filtered_like_alpacas(state):
    submit(state, "AAPL", "buy", Decimal(1), "cls", "1")
    submit(state, "MSFT", "buy", Decimal(1), "cls", "2")
    advance(state, "2022-11-23")
    submit(state, "AAPL", "sell", Decimal(1), "cls", "3")

    def named(**asked):
        return [order.client_order_id for order in orders(state, **asked)]

    assert named() == ["1", "2", "3"] and named(newest_first=True, limit=2) == ["3", "2"]
    assert named(status="open") == ["3"] and named(status="closed") == ["1", "2"]
    assert named(symbols=frozenset(["AAPL"])) == ["1", "3"] and named(symbols=frozenset(["AAPL", "MSFT"])) == [
        "1",
        "2",
        "3",
    ]
    assert named(side="sell") == ["3"]
    first = orders(state)[0].submitted_at
    assert named(after=first) == ["2", "3"] and named(until=first) == []


@given(st.lists(st.sampled_from("abcd"), max_size=12))
@settings(deadline=None, max_examples=25)
def test_every_stamp_and_id_is_its_own(names):
    import tempfile
    from pathlib import Path

    from mlt_lib.exchange.tape import Tape, prices_from

    tape = Tape(prices_from(["A"], [("2022-12-27", ["1"]), ("2022-12-28", ["1"])], "test"))
    with tempfile.TemporaryDirectory() as folder:
        state = open_state(Path(folder) / "s.db", tape, "test")
        for name in names:
            known = find_order(state, client_order_id=name)
            if known:
                assert refusal(state, "A", "buy", Decimal(1), "cls", name).code == 40010001
            else:
                submit(state, "A", "buy", Decimal(1), "cls", name)
        stamps = [order.submitted_at for order in orders(state)]
        assert stamps == sorted(set(stamps)) and len(stamps) == len(set(names))
        state.db.close()
