"A small desk on the real exchange process: a session's work as a scheduler does it, and what must be true after it."

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from random import Random

import pandas as pd
from sqlalchemy import Engine

from mlt_lib.exchange.process import Exchange, advance, arm_fault, counters, find_exchange, start_exchange
from mlt_lib.execution import gateway
from mlt_lib.execution.client import SafeTradingClient, trading_client
from mlt_lib.execution.decisions import Decided, decision_of, record_decision
from mlt_lib.execution.intents import intents_from
from mlt_lib.execution.ledger import SEEN, orders_of
from mlt_lib.execution.positions import cash, fills_of, holdings, snapshot
from mlt_lib.execution.reconcile import reconcile
from mlt_lib.execution.steps import Crash, crashing
from mlt_lib.market.calendar import decision_time, sessions
from mlt_lib.store import audit
from mlt_lib.store.database import open_database

SYMBOLS = ("AAA", "BBB", "CCC")
CASH = Decimal(100_000)
NAMESPACE = "test"


def make_tape(path: Path, count: int) -> pd.DataFrame:
    "Write a tape of random walks in cents over `count` sessions of 2022 and after."
    days = sessions("2022-01-03", "2022-12-28")[:count]
    random = Random(7)
    walks = {symbol: [Decimal(random.randrange(2000, 9000)) / 100 for _ in days] for symbol in SYMBOLS}
    frame = pd.DataFrame(walks, index=days)
    frame.to_csv(path)
    return frame.astype(float)


@dataclass
class Trade:
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    from_weight: float = 0.0
    to_weight: float = 0.0


@dataclass
class Desk:
    "Where the database and the exchange are; everything else is found there, as after a restart."

    url: str
    exchange: Exchange
    prices: pd.DataFrame
    send: Callable = gateway.send
    record: Callable = record_decision
    timeout_seconds: float = 2.0

    @cached_property
    def engine(self) -> Engine:
        "One engine; its connections are dropped after each step, as a process that ends drops them."
        return open_database(self.url)

    def client(self) -> SafeTradingClient:
        return trading_client(self.exchange.rest_url, timeout_seconds=self.timeout_seconds)

    def wanted(self, session: date, held: dict[str, Decimal]) -> list[Trade]:
        "A decision that depends on the session alone, as whole shares to trade from what is held."
        random = Random(session.isoformat())
        trades = []
        for symbol in SYMBOLS:
            change = Decimal(random.randrange(0, 200)) - held.get(symbol, Decimal(0))
            price = Decimal(str(self.prices.at[pd.Timestamp(session), symbol]))
            if change:
                trades.append(Trade(symbol, "buy" if change > 0 else "sell", abs(change), price))
        return trades

    def step(self, session: date) -> gateway.Sent:
        "One session, from nothing but what is on disk and at the broker."
        engine = self.engine
        try:
            advance(self.exchange.rest_url, session)
            client = self.client()
            known = reconcile(engine, client, NAMESPACE, CASH, sleep=lambda _: None)
            if decision_of(engine, NAMESPACE, "random", session) is None:
                trades = self.wanted(session, known.holdings)
                intents = intents_from(trades, "simulated", NAMESPACE, "test", "random", session)
                self.record(engine, decided(session), intents)
            facts = gateway.gather_facts(engine, client, NAMESPACE, "simulated", True, Decimal(1_000_000))
            sent = self.send(engine, client, NAMESPACE, facts, sleep=lambda _: None)
            snapshot(engine, NAMESPACE, session, self.prices.loc[str(session)], CASH, pd.Series(dtype=float))
            return sent
        finally:
            engine.dispose()

    def session(self, session: date, crash: tuple[str, int] | None = None, fault: str | None = None, times=1) -> int:
        "A session with a crash and a fault in it, run again until it is done; how often it crashed."
        if fault:
            advance(self.exchange.rest_url, session)
            arm_fault(self.exchange.rest_url, fault, times)
        crashed = 0
        try:
            with crashing(*(crash or ("after_positions", 10**9))):
                sent = self.step(session)
        except Crash:
            crashed, sent = 1, self.step(session)
        for _ in range(3):
            if not sent.unsettled:
                return crashed
            sent = self.step(session)
        raise AssertionError(f"{session}: still not settled: {sent.unsettled}")

    def disagreements(self, settled: bool = True) -> list[str]:
        "Everything that is lost, doubled or merely different between ledger and exchange; empty is right."
        return _disagreements(self, self.engine, self.client(), settled)


def decided(session: date) -> Decided:
    "A decision whose weights don't matter here."
    empty = pd.Series(dtype=float)
    when = decision_time(pd.Timestamp(session)).to_pydatetime()
    return Decided(NAMESPACE, "random", session, empty, empty, pd.DataFrame(), when, "d", "s")


def _disagreements(desk: Desk, engine, client, settled: bool) -> list[str]:
    truth, found = counters(desk.exchange.rest_url), []
    orders = client.orders(decision_time(pd.Timestamp("2022-01-03")).to_pydatetime() - pd.Timedelta(days=9))
    ours = {order.client_order_id: order for order in orders_of(engine, NAMESPACE)}
    at_broker = [order.client_order_id for order in orders]
    found += [f"doubled: {order.client_order_id}" for order in orders if order.client_order_id not in ours]
    found += [f"lost: {order.intent}" for cid, order in ours.items() if cid not in at_broker]
    found += [f"believed dead: {o}" for cid, o in ours.items() if cid in at_broker and o.state not in SEEN]
    found += [f"not done: {order}" for order in ours.values() if settled and order.state != "FILLED"]
    found += [o.symbol for o in orders if (mine := ours.get(o.client_order_id)) and o.differs_from(mine.intent)]
    fills = fills_of(engine, NAMESPACE)
    if settled:
        booked = fills.groupby("client_order_id")["quantity"].agg(list).to_dict()
        found += [
            f"fills {cid}: {booked.get(cid)}" for cid, o in ours.items() if booked.get(cid) != [o.intent.quantity]
        ]
    held = {symbol: Decimal(quantity) for symbol, quantity in truth["positions"].items() if Decimal(quantity)}
    if settled and holdings(engine, NAMESPACE) != held:
        found.append(f"positions: {holdings(engine, NAMESPACE)} is not {held}")
    if settled and cash(engine, NAMESPACE, CASH) != Decimal(truth["cash"]):
        found.append(f"cash: {cash(engine, NAMESPACE, CASH)} is not {truth['cash']}")
    if not audit.verify(engine).ok:
        found.append("the audit chain is broken")
    return found


def open_desk(folder: Path, count: int, slippage_bps: int = 2, **variant) -> Desk:
    "A desk on a new exchange of `count` sessions; stop `desk.exchange` at the end."
    prices = make_tape(folder / "tape.csv", count)
    exchange = start_exchange(
        folder / "exchange.db", folder / "tape.csv", "test", CASH, slippage_bps, prices.index[0].date()
    )
    return Desk(f"sqlite:///{folder}/desk.db", exchange, prices, **variant)


if __name__ == "__main__":  # one session in a process of its own, to be killed
    place = Path(sys.argv[1])
    tape = pd.read_csv(place / "tape.csv", index_col=0, parse_dates=True)
    running = find_exchange(place / "exchange.db")
    assert running
    print(Desk(f"sqlite:///{place}/desk.db", running, tape).step(date.fromisoformat(sys.argv[2])))
