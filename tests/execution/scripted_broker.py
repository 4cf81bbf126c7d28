"A broker in memory whose answers are scripted, for what the exchange process can't be made to do."

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pandas as pd

from mlt_lib.execution.answers import (
    Account,
    BrokerOrder,
    Clock,
    Duplicate,
    Position,
    RateLimited,
    Refused,
    Unknown,
    read_order,
)
from mlt_lib.execution.checks import Facts
from mlt_lib.execution.decisions import Decided, record_decision
from mlt_lib.execution.intents import Intent, client_order_id, plain

SLOT = date(2022, 12, 28)
CLOSE = datetime(2022, 12, 28, 21, tzinfo=UTC)
NOW = datetime(2022, 12, 29, 0, 30, tzinfo=UTC)
END = datetime(2022, 12, 29, 21, tzinfo=UTC)
CASH = Decimal(100_000)
NAMESPACE = "demo"


def make_intent(symbol="KO", side="buy", quantity="10", price="60", slot=SLOT, end=END) -> Intent:
    "An order of the lesson's kind."
    cid = client_order_id("simulated:demo", "demo", "ensemble", slot, symbol)
    amounts = (Decimal(quantity), Decimal(price), 0.0, 0.1)
    return Intent(cid, NAMESPACE, "demo", "ensemble", slot, symbol, side, *amounts, end)


def make_decided(slot=SLOT, weights=None) -> Decided:
    "A decision with two scores and a forecast."
    targets = pd.Series({"KO": 0.25, "PEP": 0.5} if weights is None else weights, dtype=float)
    scores = pd.DataFrame({"momentum": {"KO": 0.1, "PEP": float("nan")}, "low_volatility": {"KO": 0.3, "PEP": -0.2}})
    forecast = pd.Series({"KO": 0.01, "PEP": float("nan")})
    return Decided(NAMESPACE, "ensemble", slot, targets, forecast, scores, CLOSE, "d" * 64, "s" * 64)


def record(engine, *intents, slot=SLOT):
    "Put intents into the ledger."
    return record_decision(engine, make_decided(slot), intents)


def make_facts(**changed) -> Facts:
    "Facts under which every lesson order may go out."
    given = {
        "kind": "simulated",
        "submit": True,
        "now": NOW,
        "session": SLOT,
        "buying_power": Decimal(200_000),
        "max_order_usd": Decimal(50_000),
        "tradable": frozenset({"KO", "PEP", "PG"}),
    }
    return Facts(**given | changed)


def wire(intent: Intent, status="accepted", filled="0", price=None, number=1, **changed) -> dict:
    "An order as Alpaca writes it."
    raw = {"id": f"broker-{intent.symbol}-{intent.slot}", "client_order_id": intent.client_order_id}
    raw |= {"symbol": intent.symbol, "side": intent.side, "qty": plain(intent.quantity), "type": intent.order_type}
    raw |= {"time_in_force": intent.time_in_force, "status": status, "filled_qty": filled, "filled_avg_price": price}
    raw |= {"submitted_at": (NOW + timedelta(microseconds=number)).isoformat(), "filled_at": None}
    return raw | changed


class ScriptedBroker:
    "Takes each id once; each submit follows the next word of the script."

    timeout_seconds = 2.0

    def __init__(self, script: Iterable[str] = (), now: datetime = NOW):
        self.script, self.now = list(script), now
        self.book: dict[str, BrokerOrder] = {}
        self.held: dict[str, Decimal] = {}
        self.cash = CASH
        self.late: list[Intent] = []  # requests that arrive after somebody slept
        self.posts: list[str] = []
        self.blind = 0  # so many look-ups fail
        self.hidden: set[str] = set()  # ids that the list doesn't show

    def clock(self) -> Clock:
        return Clock(self.now, False, END - timedelta(hours=6.5), END)

    def account(self) -> Account:
        return Account("demo", self.cash, self.cash, self.cash * 2)

    def positions(self) -> dict[str, Position]:
        return {s: Position(s, q, q * 60) for s, q in self.held.items()}

    def tradable(self, symbols):
        return frozenset(symbols)

    def accept(self, intent: Intent) -> BrokerOrder:
        order = read_order(wire(intent, number=len(self.book) + 1))
        return self.book.setdefault(intent.client_order_id, order)

    def submit(self, intent: Intent) -> BrokerOrder:
        self.posts.append(intent.client_order_id)
        word = self.script.pop(0) if self.script else "accept"
        if word == "limited":
            raise RateLimited(0.0)
        if word == "lost":
            raise Unknown("the connection broke before the broker heard")
        if word == "late":
            self.late.append(intent)
            raise Unknown("the connection broke while the request was under way")
        if intent.client_order_id in self.book:
            raise Duplicate("client_order_id must be unique")
        if word == "refuse":
            raise Refused(403, 40310000, "insufficient buying power")
        if word == "phantom":
            raise Duplicate("client_order_id must be unique")
        order = self.accept(intent)
        if word == "unheard":
            raise Unknown("the connection broke after the broker took it")
        return order

    def sleep(self, seconds: float) -> None:
        while self.late:
            self.accept(self.late.pop())

    def by_client_id(self, cid: str) -> BrokerOrder | None:
        if self.blind:
            self.blind -= 1
            raise Unknown("no answer to the look-up")
        return self.book.get(cid)

    def orders(self, after: datetime) -> list[BrokerOrder]:
        return [order for order in self.book.values() if order.client_order_id not in self.hidden]

    def fill(self, intent: Intent, quantity: str, price="60", status=None) -> None:
        "Fill an order up to `quantity` and move shares and money."
        before, total = self.book[intent.client_order_id].filled_quantity, Decimal(quantity)
        status = status or ("filled" if total == intent.quantity else "partially_filled")
        average = price if total else None
        raw = wire(intent, status, quantity, average, filled_at=END.isoformat() if status == "filled" else None)
        self.book[intent.client_order_id] = read_order(raw)
        signed = (total - before) * (1 if intent.side == "buy" else -1)
        self.held[intent.symbol] = self.held.get(intent.symbol, Decimal(0)) + signed
        self.cash -= signed * Decimal(price)
