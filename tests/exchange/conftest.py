"A small tape, a state on it, and the exchange's application served from a thread of the test's own process."

import asyncio
import threading
from contextlib import contextmanager
from decimal import Decimal

import pytest
from aiohttp import web
from alpaca.trading.client import TradingClient

from mlt_lib.exchange.rest import make_app
from mlt_lib.exchange.state import open_state
from mlt_lib.exchange.tape import read_tape

CLOSES = """date,AAPL,MSFT,NEWCO
2022-11-22,150.18,245.03,
2022-11-23,151.07,247.58,
2022-11-25,148.11,247.49,
2022-11-28,144.22,,20.5
2022-11-29,141.17,240.33,21
2022-11-30,148.03,255.14,22
"""
OPENS = """date,AAPL,MSFT,NEWCO
2022-11-22,148.13,243.59,
2022-11-23,149.45,245.11,
2022-11-25,148.31,247.31,
2022-11-28,145.14,246.08,20
2022-11-29,144.29,241.33,20.7
2022-11-30,141.40,240.57,21.2
"""


@pytest.fixture
def tape_file(tmp_path):
    path = tmp_path / "closes.csv"
    path.write_text(CLOSES)
    return path


@pytest.fixture
def opens_file(tmp_path):
    path = tmp_path / "opens.csv"
    path.write_text(OPENS)
    return path


@pytest.fixture
def tape(tape_file, opens_file):
    return read_tape(tape_file, opens_file)


@pytest.fixture
def state(tmp_path, tape):
    state = open_state(tmp_path / "state.db", tape, "test", Decimal(100_000), slippage_bps=Decimal(10))
    yield state
    state.db.close()


@contextmanager
def served(path, tape, **terms):
    "The application on a free port of 127.0.0.1, in a thread; gives its address."
    started, loop, found = threading.Event(), asyncio.new_event_loop(), {}

    async def serve():
        state = open_state(path, tape, "test", **terms)
        runner = web.AppRunner(make_app(state), access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found["port"], found["stop"] = runner.addresses[0][1], asyncio.Event()
        started.set()
        await found["stop"].wait()
        await runner.cleanup()
        state.db.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield f"http://127.0.0.1:{found['port']}"
    finally:
        loop.call_soon_threadsafe(found["stop"].set)
        thread.join(10)
        loop.close()


@pytest.fixture
def rest_url(tmp_path, tape):
    with served(tmp_path / "served.db", tape, cash=Decimal(100_000), slippage_bps=Decimal(10)) as url:
        yield url


@pytest.fixture
def client(rest_url):
    return TradingClient("key", "secret", url_override=rest_url)


@pytest.fixture
def raw(rest_url):
    return TradingClient("key", "secret", url_override=rest_url, raw_data=True)
