"The real alpaca-py client against a server that answers anything: no crash, no repetition, no wrong conclusion."

import json
import threading
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_broker import NOW, make_intent, wire

from mlt_lib.errors import BrokerError, SettingsError
from mlt_lib.execution.answers import (
    REFUSALS,
    Clock,
    Duplicate,
    Outcome,
    RateLimited,
    Refused,
    Unknown,
    order_outcome,
    rate_reset,
    read_error,
    read_order,
)
from mlt_lib.execution.client import trading_client

KO = make_intent("KO")


class Server:
    "Answers with what `self.answer` says: (status, body, headers), 'close' or 'hang'."

    def __init__(self):
        self.seen, self.answer, server = [], (200, "{}", {}), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.seen.append((self.command, self.path, json.loads(body) if body else None, dict(self.headers)))
                answer = server.answer(*server.seen[-1][:3]) if callable(server.answer) else server.answer
                if answer == "close":
                    self.close_connection = True
                    self.connection.close()
                    return
                if answer == "hang":
                    time.sleep(1.5)
                    self.close_connection = True
                    return
                status, text, headers = answer
                text = text if isinstance(text, str) else json.dumps(text)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(text.encode())), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_DELETE = _any

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture(scope="module")
def shared():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def server(shared):
    shared.seen.clear()
    return shared


@pytest.fixture
def client(server):
    return trading_client(server.url, timeout_seconds=0.6)


# --- sending ----------------------------------------------------------------------------------------------------------

ANSWERS = [
    ((422, {"code": 40010001, "message": "client_order_id must be unique"}, {}), Duplicate),
    ((422, {"code": 42210000, "message": "qty must be > 0"}, {}), Refused),
    ((403, {"code": 40310000, "message": "insufficient buying power"}, {}), Refused),
    ((403, {"message": "forbidden."}, {}), Refused),
    ((401, "<html>no</html>", {}), Refused),
    ((400, "", {}), Refused),
    ((404, "[]", {}), Refused),
    ((429, {"code": 42910000, "message": "rate limit"}, {"X-Ratelimit-Reset": "0"}), RateLimited),
    ((500, {"code": 50010000, "message": "internal"}, {}), Unknown),
    ((504, "<html>timeout</html>", {}), Unknown),
    ((408, "", {}), Unknown),
    ((409, "", {}), Unknown),
    ((302, "", {"Location": "http://127.0.0.1:9/"}), Unknown),
    ((200, "", {}), Unknown),
    ((200, "not json", {}), Unknown),
    ((200, "[1]", {}), Unknown),
    ((200, "null", {}), Unknown),
    ((200, wire(KO) | {"qty": None}, {}), Unknown),
    ((200, wire(KO) | {"qty": "NaN"}, {}), Unknown),
    ((200, wire(KO) | {"filled_qty": "11"}, {}), Unknown),
    ((200, wire(KO) | {"client_order_id": "somebody-else"}, {}), Unknown),
    ("close", Unknown),
    ("hang", Unknown),
]


@pytest.mark.parametrize(("answer", "outcome"), ANSWERS, ids=lambda a: str(a)[:40])
def test_every_answer_to_an_order_is_sorted_and_nothing_is_sent_twice(server, client, answer, outcome):
    server.answer = answer
    with pytest.raises(Outcome) as raised:
        client.submit(KO)
    assert type(raised.value) is outcome
    assert len(server.seen) == 1, "alpaca-py's own retries are off"


def test_an_accepted_order_comes_back_exact(server, client):
    big = replace(KO, quantity=Decimal("123456789012345678"))
    server.answer = (200, wire(big), {"X-Ratelimit-Remaining": "199"})
    order = client.submit(big)
    method, path, body, headers = server.seen[0]
    assert (method, path, body["qty"]) == ("POST", "/v2/orders", "123456789012345678"), "no float on the way"
    assert body == {k: body[k] for k in ("symbol", "qty", "side", "type", "time_in_force", "client_order_id")}
    assert (order.quantity, order.state, order.differs_from(big)) == (big.quantity, "WORKING", "")
    assert client.headers["X-Ratelimit-Remaining"] == "199"
    assert headers["APCA-API-KEY-ID"] == "simulated"


def test_a_limit_goes_out_as_text(server, client):
    server.answer = (200, wire(KO) | {"type": "limit"}, {})
    client.submit(replace(KO, order_type="limit", limit_price=Decimal("60.10")))
    assert server.seen[0][2]["limit_price"] == "60.1"


@given(st.integers(100, 599), st.text(max_size=60))
def test_no_status_and_no_body_breaks_the_table(status, text):
    outcome = order_outcome(status, text, {}, 0.0)
    assert isinstance(outcome, BrokerError)
    assert (type(outcome) is Refused) == (status in REFUSALS and read_error(text)[0] != 40010001)


@pytest.mark.parametrize(
    ("header", "reset"), [({}, 160), ({"X-Ratelimit-Reset": "x"}, 160), ({"X-Ratelimit-Reset": "110"}, 110)]
)
def test_the_limit_says_when_to_come_back(header, reset):
    assert rate_reset(header, 100) == reset


def test_a_reset_far_away_or_long_past_is_bounded():
    assert rate_reset({"X-Ratelimit-Reset": "99999"}, 100) == 160
    assert rate_reset({"X-Ratelimit-Reset": "3"}, 100) == 100


# --- asking -----------------------------------------------------------------------------------------------------------


def test_only_the_brokers_own_404_proves_that_there_is_no_order(server, client):
    server.answer = (404, {"code": 40410000, "message": "order not found"}, {})
    assert client.by_client_id(KO.client_order_id) is None
    for answer in [(404, "<html>wrong server</html>", {}), (404, {"code": 1, "message": "x"}, {}), (403, {}, {})]:
        server.answer = answer
        with pytest.raises(Unknown):
            client.by_client_id(KO.client_order_id)


def test_an_order_is_found_by_its_id(server, client):
    server.answer = (200, wire(KO, "filled", "10", "60.5", filled_at="2022-12-29T21:00:00Z"), {})
    order = client.by_client_id(KO.client_order_id)
    assert (order.state, order.filled_average_price) == ("FILLED", Decimal("60.5"))
    assert parse_qs(urlsplit(server.seen[0][1]).query) == {"client_order_id": [KO.client_order_id]}


@pytest.mark.parametrize("call", ["clock", "account", "positions", "cancel_all"])
@pytest.mark.parametrize(
    "answer", [(500, "", {}), (200, "oops", {}), "close", (401, {"message": "forbidden."}, {}), (429, "", {})]
)
def test_a_question_without_an_answer_is_a_broker_error(server, client, call, answer):
    server.answer = answer
    with pytest.raises(BrokerError):
        getattr(client, call)()


@pytest.mark.parametrize("call", ["clock", "account"])
def test_an_answer_of_another_shape_names_the_field(server, client, call):
    server.answer = (200, {"x": 1}, {})
    with pytest.raises(Unknown, match="has no (timestamp|account_number)"):
        getattr(client, call)()
    server.answer = (200, {"x": 1}, {})
    with pytest.raises(Unknown, match="no list"):
        client.positions()


def test_a_question_is_asked_again_when_the_connection_breaks(server, client):
    answers = iter(["close", (200, {"account_number": "7", "cash": "1.5", "equity": "2", "buying_power": "4"}, {})])
    server.answer = lambda *_: next(answers)
    account = client.account()
    assert (account.number, account.cash, len(server.seen)) == ("7", Decimal("1.5"), 2)


def test_positions_carry_their_sign(server, client):
    rows = [("KO", "10", "long"), ("PEP", "5", "short"), ("PG", "-3", "short")]
    server.answer = (200, [{"symbol": s, "qty": q, "side": side, "market_value": "1"} for s, q, side in rows], {})
    assert {s: p.quantity for s, p in client.positions().items()} == {"KO": 10, "PEP": -5, "PG": -3}


def test_what_is_tradable(server, client):
    assets = {"KO": (200, {"tradable": True, "status": "active"}, {}), "PG": (200, {"tradable": False}, {})}
    assets["BRK%2FB"] = (200, {"tradable": True, "status": "inactive"}, {})
    server.answer = lambda _, path, __: assets.get(path.split("/")[-1], (404, {"code": 40410000, "message": "?"}, {}))
    assert client.tradable(["KO", "PG", "BRK/B", "NOPE"]) == {"KO"}
    server.answer = (403, {"message": "forbidden."}, {})
    with pytest.raises(Refused):
        client.tradable(["KO"])


def test_cancelling_everything_says_how_many(server, client):
    server.answer = (207, [{"id": "a", "status": 200}, {"id": "b", "status": 200}], {})
    assert client.cancel_all() == 2
    assert server.seen[0][:2] == ("DELETE", "/v2/orders")


def test_the_clock_knows_its_session():
    def at(hour, day=28):
        return datetime(2022, 12, day, hour, tzinfo=UTC)

    assert Clock(at(22), False, at(14, 29), at(21, 29)).session == date(2022, 12, 28)
    assert Clock(at(15, 29), True, at(14, 30), at(21, 29)).session == date(2022, 12, 28), "not closed yet"
    weekend = datetime(2022, 12, 31, 12, tzinfo=UTC)
    monday = datetime(2023, 1, 3, 21, tzinfo=UTC)
    assert Clock(weekend, False, monday, monday).session == date(2022, 12, 30)


# --- paging -----------------------------------------------------------------------------------------------------------


def book_server(count, same_moment=False):
    "Pages of orders as Alpaca gives them: after is exclusive, to the microsecond."
    book = [wire(KO, number=1 if same_moment else n // 3, id=f"o{n}", client_order_id=f"c{n}") for n in range(count)]

    def answer(_, path, __):
        query = {k: v[0] for k, v in parse_qs(urlsplit(path).query).items()}
        after = datetime.fromisoformat(query["after"])
        later = [raw for raw in book if datetime.fromisoformat(raw["submitted_at"]) > after]
        return 200, later[: int(query["limit"])], {}

    return answer


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1234])
def test_every_order_is_listed_once_beyond_a_page(server, client, count):
    "Three orders share each moment, so page ends fall between orders of one moment."
    server.answer = book_server(count)
    orders = client.orders(NOW - timedelta(days=1))
    assert [order.broker_id for order in orders] == [f"o{n}" for n in range(count)]


def test_more_orders_of_one_moment_than_a_page_is_said(server, client):
    server.answer = book_server(501, same_moment=True)
    with pytest.raises(Unknown, match="more than 500 orders were submitted at"):
        client.orders(NOW - timedelta(days=1))


# --- reading ----------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=6),
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text(max_size=4), v, max_size=2),
)


@settings(max_examples=200)
@given(st.sampled_from(sorted(wire(KO))), JSON)
def test_a_damaged_order_is_unknown_and_nothing_else(name, value):
    try:
        order = read_order(wire(KO) | {name: value})
    except Unknown:
        return
    assert order.quantity > 0 or order.filled_quantity == 0


@settings(max_examples=50)
@given(JSON)
def test_whatever_comes_for_an_order_is_read_or_unknown(raw):
    with pytest.raises(Unknown):
        read_order(raw)


@pytest.mark.parametrize(
    ("status", "filled", "state"),
    [
        ("new", "0", "WORKING"),
        ("accepted", "0", "WORKING"),
        ("a_word_of_next_year", "0", "WORKING"),
        ("partially_filled", "4", "PARTIAL"),
        ("pending_cancel", "4", "PARTIAL"),
        ("filled", "10", "FILLED"),
        ("filled", "4", "PARTIAL"),
        ("canceled", "4", "CANCELED"),
        ("replaced", "0", "CANCELED"),
        ("expired", "0", "EXPIRED"),
        ("rejected", "0", "REJECTED"),
    ],
)
def test_the_brokers_words_become_ours(status, filled, state):
    assert read_order(wire(KO, status, filled, "60")).state == state


# --- addresses and keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://x", "http://"])
def test_an_address_that_is_none_is_a_settings_error(url):
    with pytest.raises(SettingsError, match="rest_url"):
        trading_client(url)


def test_a_proxy_is_not_asked_for_loopback(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.answer = (200, [], {})
    assert trading_client(server.url).positions() == {}


def test_credentials_are_sent_and_not_shown(server):
    class Hidden(str):
        def get_secret_value(self):
            return "PK123"

    class Keys:
        key, secret = Hidden("**********"), "open-sesame"

    server.answer = (200, [], {})
    client = trading_client(server.url, Keys())
    client.positions()
    headers = server.seen[0][3]
    assert (headers["APCA-API-KEY-ID"], headers["APCA-API-SECRET-KEY"]) == ("PK123", "open-sesame")
    assert "open-sesame" not in repr(client)


def test_it_is_alpacas_own_client():
    from alpaca.trading.client import TradingClient

    assert isinstance(trading_client("http://127.0.0.1:9"), TradingClient)
