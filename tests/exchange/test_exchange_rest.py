"The wire, read by the real alpaca-py client: raw, and as its typed models."

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from decimal import Decimal
from time import monotonic
from urllib.parse import urlsplit

import pytest
import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderStatus, QueryOrderStatus
from alpaca.trading.models import Asset, Calendar, Clock, Order, Position, TradeAccount
from alpaca.trading.requests import GetCalendarRequest, GetOrdersRequest, LimitOrderRequest, MarketOrderRequest

from mlt_lib.errors import BrokerError
from mlt_lib.exchange.process import advance, arm_fault, counters

KEYS = {"APCA-API-KEY-ID": "key", "APCA-API-SECRET-KEY": "secret"}


def buy(cid=None, symbol="AAPL", qty=10, tif="cls", side="buy"):
    return MarketOrderRequest(symbol=symbol, qty=qty, side=side, time_in_force=tif, client_order_id=cid)


def post(rest_url, body, headers=KEYS, path="/v2/orders"):
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return requests.post(rest_url + path, data=data, headers=headers, timeout=10)


ORDER = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "cls"}


# Documents


def test_the_account_is_alpacas(client, raw):
    account = client.get_account()
    assert isinstance(account, TradeAccount) and account.status.value == "ACTIVE" and account.currency == "USD"
    document = raw.get_account()
    money = (
        "cash",
        "equity",
        "last_equity",
        "buying_power",
        "long_market_value",
        "short_market_value",
        "portfolio_value",
    )
    assert {name: document[name] for name in money} == dict.fromkeys(
        ("cash", "equity", "last_equity", "portfolio_value"), "100000"
    ) | {"buying_power": "200000", "long_market_value": "0", "short_market_value": "0"}


def test_every_field_the_client_knows_is_on_the_wire(client, raw, rest_url):
    client.submit_order(buy("one"))
    advance(rest_url, "2022-11-23")
    gone = {"crypto_status", "options_approved_level", "options_trading_level"}  # for accounts with crypto or options
    foreign = {"swap_rate", "avg_entry_swap_rate", "usd"}  # for accounts in other currencies
    assert set(TradeAccount.model_fields) - gone <= set(raw.get_account())
    assert set(Order.model_fields) <= set(raw.get_order_by_client_id("one"))
    assert set(Position.model_fields) - foreign <= set(raw.get_all_positions()[0])
    optional = {"min_order_size", "min_trade_increment", "price_increment", "maintenance_margin_requirement"}
    assert {f.alias or name for name, f in Asset.model_fields.items()} - optional <= set(raw.get_all_assets()[0])


def test_an_order_lives_and_dies(client, raw, rest_url):
    accepted = client.submit_order(buy("one"))
    assert (accepted.status, accepted.qty, accepted.filled_qty, accepted.filled_avg_price) == (
        OrderStatus.ACCEPTED,
        "10",
        "0",
        None,
    )
    advance(rest_url, "2022-11-23")
    for seen in (client.get_order_by_id(accepted.id), client.get_order_by_client_id("one")):
        assert (seen.status, seen.filled_qty, seen.filled_avg_price) == (OrderStatus.FILLED, "10", "151.2211")
        assert seen.id == accepted.id and seen.filled_at == datetime.fromisoformat("2022-11-23T21:00:00+00:00")
    assert all(
        isinstance(raw.get_order_by_client_id("one")[name], str) for name in ("qty", "filled_qty", "filled_avg_price")
    )


def test_positions_are_marked_at_the_close(client, rest_url):
    client.submit_order(buy("one"))
    client.submit_order(buy("two", "MSFT", 4, side="sell"))
    advance(rest_url, "2022-11-23")
    advance(rest_url, "2022-11-25")
    client.submit_order(buy("three", qty=3, side="sell"))
    client.submit_order(buy("four", "MSFT", 1))
    long, short = client.get_all_positions()
    assert (long.symbol, long.side.value, long.qty, long.qty_available) == ("AAPL", "long", "10", "7")
    assert (long.market_value, long.cost_basis, long.avg_entry_price) == ("1481.1", "1512.211", "151.2211")
    assert (long.unrealized_pl, long.unrealized_intraday_pl, long.lastday_price) == ("-31.111", "-29.6", "151.07")
    assert (short.symbol, short.side.value, short.qty, short.qty_available) == ("MSFT", "short", "-4", "-3")
    assert Decimal(short.market_value) == -4 * Decimal("247.49") and Decimal(short.unrealized_pl) < 0
    assert client.get_open_position("AAPL") == long == client.get_open_position(long.asset_id)
    with pytest.raises(APIError) as missing:
        client.get_open_position("NEWCO")
    assert (missing.value.status_code, missing.value.code) == (404, 40410000)


def test_the_clock_speaks_new_york_time_and_knows_the_short_day(client, rest_url):
    advance(rest_url, "2022-11-23")
    clock = client.get_clock()
    assert isinstance(clock, Clock) and not clock.is_open
    stamps = [clock.timestamp.isoformat(), clock.next_open.isoformat(), clock.next_close.isoformat()]
    assert stamps == ["2022-11-23T19:30:00-05:00", "2022-11-25T09:30:00-05:00", "2022-11-25T13:00:00-05:00"]


def test_after_the_tape_the_calendar_goes_on(client, rest_url):
    advance(rest_url, "2022-11-30")
    assert client.get_clock().next_open.isoformat() == "2022-12-01T09:30:00-05:00"


def test_the_calendar_has_the_hours(client, raw):
    days = client.get_calendar(GetCalendarRequest(start=date(2022, 11, 23), end=date(2022, 11, 28)))
    assert all(isinstance(day, Calendar) for day in days)
    assert [(str(day.date), f"{day.close:%H:%M}") for day in days] == [
        ("2022-11-23", "16:00"),
        ("2022-11-25", "13:00"),
        ("2022-11-28", "16:00"),
    ]
    whole = raw.get_calendar()
    assert (whole[0]["date"], whole[-1]["date"]) == ("2022-11-22", "2022-12-30")


def test_a_calendar_that_cannot_be_is_refused(rest_url):
    answer = requests.get(f"{rest_url}/v2/calendar?start=soon", headers=KEYS, timeout=10)
    assert answer.status_code == 422 and "soon" in answer.json()["message"]


def test_assets_become_tradable_with_their_first_close(client, rest_url):
    assert {asset.symbol: asset.tradable for asset in client.get_all_assets()} == {
        "AAPL": True,
        "MSFT": True,
        "NEWCO": False,
    }
    advance(rest_url, "2022-11-28")
    newcomer = client.get_asset("NEWCO")
    assert newcomer.tradable and client.get_asset(newcomer.id) == newcomer
    with pytest.raises(APIError) as missing:
        client.get_asset("NOPE")
    assert missing.value.status_code == 404
    inactive = requests.get(f"{rest_url}/v2/assets?status=inactive", headers=KEYS, timeout=10)
    assert inactive.json() == []


def test_executions_come_in_pages(raw, client, rest_url):
    for number in range(5):
        client.submit_order(buy(str(number)))
    advance(rest_url, "2022-11-23")
    path, seen, token = "/account/activities/FILL", [], None
    while page := raw.get(path, {"page_size": 2, "direction": "asc"} | ({"page_token": token} if token else {})):
        seen, token = seen + page, page[-1]["id"]
    orders = [raw.get_order_by_client_id(str(number))["id"] for number in range(5)]
    assert [fill["order_id"] for fill in seen] == orders and len({fill["id"] for fill in seen}) == 5
    assert (seen[0]["activity_type"], seen[0]["price"], seen[0]["qty"], seen[0]["side"]) == (
        "FILL",
        "151.2211",
        "10",
        "buy",
    )
    assert raw.get(path) == seen[::-1]
    for asked in ({"page_token": "no such"}, {"page_size": 101}, {"page_size": "x"}, {"direction": "up"}):
        with pytest.raises(APIError) as refused:
            raw.get(path, asked)
        assert refused.value.status_code == 422


# Lists and cancellations


def test_orders_are_listed_and_paged_by_their_stamps(client, rest_url):
    for number in range(7):
        client.submit_order(buy(str(number), symbol="AAPL" if number % 2 else "MSFT", qty=1))
    newest = client.get_orders()
    assert [order.client_order_id for order in newest] == list("6543210")
    seen, after = [], None
    while page := client.get_orders(
        GetOrdersRequest(status=QueryOrderStatus.ALL, limit=3, direction="asc", after=after)
    ):
        seen, after = seen + page, page[-1].submitted_at
    assert [order.client_order_id for order in seen] == list("0123456")
    assert [o.client_order_id for o in client.get_orders(GetOrdersRequest(symbols=["AAPL"]))] == list("531")
    assert [o.client_order_id for o in client.get_orders(GetOrdersRequest(until=seen[2].submitted_at))] == list("10")
    assert client.get_orders(GetOrdersRequest(status=QueryOrderStatus.CLOSED)) == []
    assert client.get_orders(GetOrdersRequest(side="sell")) == []


@pytest.mark.parametrize(
    "after",
    [
        "2022-11-23",
        "2022-11-23 00:30:00",
        "2022-11-23T00:30:00Z",
        "2022-11-22T19:30:00-05:00",
        "2022-11-23T01:30:00+01:00",
    ],
)
def test_times_are_read_in_every_form(client, rest_url, after):
    client.submit_order(buy("one"))
    answer = requests.get(f"{rest_url}/v2/orders?after={after}", headers=KEYS, timeout=10)
    assert [order["client_order_id"] for order in answer.json()] == ["one"]


@pytest.mark.parametrize(
    "asked", ["limit=501", "limit=0", "limit=many", "status=lost", "direction=up", "side=both", "after=soon"]
)
def test_a_list_that_cannot_be_is_refused(rest_url, asked):
    answer = requests.get(f"{rest_url}/v2/orders?{asked}", headers=KEYS, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (422, 42210000) and asked.split("=")[0] in answer.json()[
        "message"
    ]


def test_cancelling(client, rest_url):
    orders = [client.submit_order(buy(str(number))) for number in range(3)]
    client.cancel_order_by_id(orders[0].id)
    with pytest.raises(APIError) as again:
        client.cancel_order_by_id(orders[0].id)
    assert (again.value.status_code, again.value.code) == (422, 42210000)
    with pytest.raises(APIError) as nobody:
        client.cancel_order_by_id(client.get_asset("AAPL").id)
    assert (nobody.value.status_code, nobody.value.code) == (404, 40410000)
    assert {(answer.id, answer.status) for answer in client.cancel_orders()} == {
        (order.id, 200) for order in orders[1:]
    }
    assert client.cancel_orders() == [] and counters(rest_url)["orders"] == {"canceled": 3}
    assert client.get_order_by_id(orders[1].id).canceled_at is not None


# Refusals


@pytest.mark.parametrize(
    ("terms", "status", "code", "message"),
    [
        ({"qty": None, "notional": "100"}, 422, 42210000, "notional"),
        ({"qty": None}, 422, 42210000, "qty must be a finite number"),
        ({"qty": True}, 422, 42210000, "qty must be a finite number"),
        ({"qty": "ten"}, 422, 42210000, "qty must be a finite number"),
        ({"qty": float("nan")}, 422, 42210000, "qty must be a finite number"),
        ({"qty": float("inf")}, 422, 42210000, "qty must be a finite number"),
        ({"qty": -1}, 422, 42210000, "qty must be > 0"),
        ({"qty": 0.5}, 422, 42210000, "fractional orders must be DAY orders"),
        ({"qty": 1e9}, 403, 40310000, "insufficient buying power"),
        ({"type": "limit", "limit_price": "1"}, 422, 42210000, "only simple market orders"),
        ({"limit_price": "1"}, 422, 42210000, "limit_price"),
        ({"order_class": "bracket"}, 422, 42210000, "only simple market orders"),
        ({"extended_hours": True}, 422, 42210000, "extended_hours"),
        ({"symbol": None}, 422, 42210000, "symbol is required"),
        ({"symbol": 7}, 422, 42210000, "symbol must be text"),
        ({"symbol": "NOPE"}, 422, 42210000, 'asset "NOPE" not found'),
        ({"symbol": "<b>AAPL</b>"}, 422, 42210000, "not found"),
        ({"side": "short"}, 422, 42210000, "side"),
        ({"time_in_force": "gtc"}, 422, 42210000, "gtc"),
    ],
)
def test_a_bad_order_is_refused_and_not_kept(rest_url, terms, status, code, message):
    answer = post(rest_url, ORDER | terms)
    assert (answer.status_code, answer.json()["code"]) == (status, code) and message in answer.json()["message"]
    assert counters(rest_url)["accepted"] == 0 and counters(rest_url)["posts"] == 1


@pytest.mark.parametrize("body", ["", "{", "[]", "7", b"\xff"])
def test_a_body_that_is_no_order(rest_url, body):
    answer = post(rest_url, body)
    assert (answer.status_code, answer.json()["code"]) == (400, 40010000)


def test_the_clients_own_errors_can_be_read(client):
    client.submit_order(buy("one"))
    with pytest.raises(APIError) as twice:
        client.submit_order(buy("one"))
    assert (twice.value.status_code, twice.value.code, twice.value.message) == (
        422,
        40010001,
        "client_order_id must be unique",
    )
    with pytest.raises(APIError) as limit:
        client.submit_order(LimitOrderRequest(symbol="AAPL", qty=1, side="buy", time_in_force="day", limit_price=1))
    assert limit.value.status_code == 422
    with pytest.raises(APIError) as unknown:
        client.get_order_by_client_id("nobody")
    assert (unknown.value.status_code, unknown.value.code) == (404, 40410000)


@pytest.mark.parametrize("headers", [{}, {"APCA-API-KEY-ID": "key"}, KEYS | {"APCA-API-KEY-ID": ""}])
def test_without_keys_nobody_is_served(rest_url, headers):
    assert post(rest_url, ORDER, headers).json() == {"code": 40110000, "message": "request is not authorized"}
    assert requests.get(f"{rest_url}/v2/account", headers=headers, timeout=10).status_code == 401
    assert counters(rest_url)["posts"] == 0


def test_unknown_addresses_answer_in_json(rest_url):
    for method, path, status in (
        ("GET", "/v2/watchlists", 404),
        ("GET", "/nowhere", 404),
        ("PATCH", "/v2/orders/x", 405),
    ):
        answer = requests.request(method, rest_url + path, headers=KEYS, timeout=10)
        assert answer.status_code == status and answer.json()["code"] == status * 100_000 + 10_000


# The control endpoint and the faults


def test_the_counters_are_the_truth(client, rest_url):
    client.submit_order(buy("one"))
    with pytest.raises(APIError):
        client.submit_order(buy("one"))
    advance(rest_url, date(2022, 11, 23))
    seen = counters(rest_url)
    assert (seen["posts"], seen["accepted"], seen["orders"], seen["fills"]) == (2, 1, {"filled": 1}, 1)
    assert (seen["session"], seen["positions"], seen["tape"]) == (
        "2022-11-23",
        {"AAPL": "10"},
        ["2022-11-22", "2022-11-30"],
    )
    assert Decimal(seen["cash"]) == 100_000 - 10 * Decimal("151.2211") and seen["account"] == "test"


def test_advancing_twice_is_once_and_back_is_refused(client, rest_url):
    client.submit_order(buy("one"))
    assert advance(rest_url, "2022-11-25") == advance(rest_url, "2022-11-25")
    with pytest.raises(BrokerError, match="stands at 2022-11-25 and never goes back to 2022-11-23"):
        advance(rest_url, "2022-11-23")
    assert post(rest_url, {"advance_to": "2022-11-23"}, path="/_ctl").status_code == 409
    with pytest.raises(BrokerError, match="no session of the price tape, which runs from 2022-11-22 to 2022-11-30"):
        advance(rest_url, "2023-01-03")


@pytest.mark.parametrize(
    "told",
    [
        "",
        "[]",
        "{}",
        {"advance_to": 7},
        {"fault": "flood", "times": 1},
        {"fault": "drop_after"},
        {"fault": "drop_after", "times": -1},
        {"advance_to": "2022-11-23", "fault": "x"},
    ],
)
def test_a_control_call_that_means_nothing_is_refused(rest_url, told):
    answer = post(rest_url, told, path="/_ctl")
    assert answer.status_code == 422 and "advance_to" in answer.json()["message"]
    assert counters(rest_url)["session"] == "2022-11-22"


@pytest.mark.parametrize(
    ("fault", "kept"), [("drop_before", 0), ("500_before", 0), ("drop_after", 1), ("504_after", 1), ("hang_after", 1)]
)
def test_a_fault_hits_the_next_posts_only(rest_url, raw, fault, kept):
    arm_fault(rest_url, fault, times=1)
    try:
        answer = requests.post(
            f"{rest_url}/v2/orders", json=ORDER | {"client_order_id": "one"}, headers=KEYS, timeout=0.4
        )
        outcome = answer.status_code
    except requests.RequestException as error:
        outcome = type(error).__name__
    told = {"500_before": 500, "504_after": 504, "hang_after": "ReadTimeout"}
    assert outcome == told.get(fault, "ConnectionError")
    seen = counters(rest_url)
    assert (seen["accepted"], seen["posts"], seen["faults_left"]) == (kept, 1, 0)
    answer = post(rest_url, ORDER | {"client_order_id": "one"})
    assert answer.status_code == (422 if kept else 200)
    assert raw.get_order_by_client_id("one")["status"] == "accepted" and counters(rest_url)["accepted"] == 1


def test_a_fault_is_for_orders_and_can_be_disarmed(rest_url, raw):
    arm_fault(rest_url, "500_before", times=3)
    assert raw.get_account()["cash"] == "100000" and counters(rest_url)["faults_left"] == 3
    arm_fault(rest_url, "500_before", times=0)
    assert post(rest_url, ORDER).status_code == 200


def test_a_slow_client_does_not_stop_the_others(rest_url, raw):
    arm_fault(rest_url, "hang_after")
    address = urlsplit(rest_url)
    hanging = http.client.HTTPConnection(address.hostname, address.port, timeout=5)
    hanging.request("POST", "/v2/orders", json.dumps(ORDER), KEYS)
    began = monotonic()
    while not counters(rest_url)["accepted"]:
        assert monotonic() - began < 5
    assert raw.get_account()["cash"] == "100000"
    hanging.close()


def test_the_same_order_from_many_threads_is_accepted_once(rest_url):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(rest_url, ORDER | {"client_order_id": "one"}).status_code, range(24)))
    assert sorted(set(answers)) == [200, 422] and answers.count(200) == 1
    assert counters(rest_url)["accepted"] == 1 and counters(rest_url)["posts"] == 24


def test_alpaca_py_retries_a_504_itself_and_still_only_one_order_is_kept(rest_url, monkeypatch):
    client = TradingClient("key", "secret", url_override=rest_url)
    monkeypatch.setattr(client, "_retry_wait", 0)
    arm_fault(rest_url, "504_after")
    with pytest.raises(APIError, match="must be unique"):
        client.submit_order(buy("one"))
    assert (counters(rest_url)["posts"], counters(rest_url)["accepted"]) == (2, 1)
