"The real process: it survives being killed, refuses what it can't do in one line, and leaves when it is alone."

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import monotonic, sleep

import pytest
import requests
from alpaca.trading.client import TradingClient
from alpaca.trading.requests import GetOrdersRequest, MarketOrderRequest

from mlt_lib.errors import BrokerError, SettingsError
from mlt_lib.exchange import process as room
from mlt_lib.exchange import server
from mlt_lib.exchange.account import account
from mlt_lib.exchange.process import advance, counters, find_exchange, is_alive, is_simulated, start_exchange
from mlt_lib.exchange.state import open_state, session_of
from mlt_lib.exchange.tape import read_tape

pytestmark = pytest.mark.process


@pytest.fixture
def start(tmp_path, tape_file):
    running = []

    def start(state="s.db", tape=tape_file, account="test", **terms):
        running.append(start_exchange(tmp_path / state, tape, account, **terms))
        return running[-1]

    yield start
    for exchange in running:
        exchange.stop()


def client_of(exchange):
    return TradingClient("key", "secret", url_override=exchange.rest_url, raw_data=True)


def buy(cid, qty=1):
    return MarketOrderRequest(symbol="AAPL", qty=qty, side="buy", time_in_force="cls", client_order_id=cid)


def everything(exchange):
    client = client_of(exchange)
    seen = {name: value for name, value in counters(exchange.rest_url).items() if name not in ("pid", "posts")}
    return seen, client.get_account(), client.get_all_positions(), client.get_orders(GetOrdersRequest(status="all"))


def gone(pid, seconds):
    until = monotonic() + seconds
    while is_alive(pid) and monotonic() < until:
        sleep(0.02)
    return not is_alive(pid)


def kill(exchange):
    os.kill(exchange.pid, signal.SIGKILL)
    exchange._process.wait(5)


def test_a_killed_exchange_comes_back_as_it_was(start):
    first = start(cash=50_000, slippage_bps=5)
    client_of(first).submit_order(buy("one", 10))
    advance(first.rest_url, "2022-11-23")
    client_of(first).submit_order(buy("two", 5))
    before = everything(first)
    kill(first)
    again = start(slippage_bps=5)
    assert everything(again) == before and before[0]["orders"] == {"filled": 1, "accepted": 1}
    advance(again.rest_url, "2022-11-25")
    assert counters(again.rest_url)["positions"] == {"AAPL": "15"}


def test_what_was_acknowledged_is_there_after_a_kill(start):
    exchange, acknowledged = start(), []

    def send():
        client = client_of(exchange)
        for number in range(10_000):
            try:
                client.submit_order(buy(f"{number}"))
            except Exception:  # the line breaks when the exchange dies
                return
            acknowledged.append(f"{number}")

    sender = threading.Thread(target=send)
    sender.start()
    while len(acknowledged) < 30:
        sleep(0.005)
    kill(exchange)
    sender.join(10)
    kept = counters((again := start()).rest_url)["accepted"]
    assert kept - len(acknowledged) in (0, 1)  # the last one may have been kept without an answer
    for cid in acknowledged:
        assert client_of(again).get_order_by_client_id(cid)["status"] == "accepted"


def test_one_state_one_process(start, tmp_path):
    first = start()
    with pytest.raises(
        SettingsError, match="did not start: .*s.db: the exchange's state is in use by another exchange"
    ) as error:
        start()
    assert "\n" not in str(error.value) and "Traceback" not in (tmp_path / "s.db.log").read_text()
    found = find_exchange(tmp_path / "s.db")
    assert found == first and counters(first.rest_url)["account"] == "test"


def test_two_states_live_side_by_side(start):
    first, second = start("a.db", account="a"), start("b.db", account="b")
    client_of(first).submit_order(buy("one"))
    assert counters(first.rest_url)["accepted"] == 1 and counters(second.rest_url)["accepted"] == 0


def test_a_busy_port_is_one_line(start, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"did not start: port {port} on 127.0.0.1 is busy; choose another"):
            start(port=port)
    assert start(port=port).rest_url == f"http://127.0.0.1:{port}"  # free again: the account is whole


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"start": "2022-11-24"}, r"the start \(2022-11-24\) is no session of the price tape"),
        ({"cash": -5}, "starting cash of -5: must be above 0"),
        ({"slippage_bps": "much"}, "argument --slippage-bps: 'much' is not a number"),
        ({"tape": "nowhere.csv"}, "nowhere.csv: no such price tape"),
    ],
)
def test_a_bad_start_is_one_line_and_leaves_no_account(start, tmp_path, tape_file, terms, message):
    with pytest.raises(SettingsError, match=message):
        start(**terms)
    assert find_exchange(tmp_path / "s.db") is None
    fresh = open_state(tmp_path / "s.db", read_tape(tape_file), "test", Decimal(7), "2022-11-25")
    assert (account(fresh).cash, session_of(fresh)) == (7, "2022-11-25")
    fresh.db.close()


def test_it_is_told_to_stop_and_stops(start, tmp_path):
    exchange = start()
    counters(exchange.rest_url)
    began = monotonic()
    with exchange as same:
        assert same is exchange
    assert exchange._process.returncode == 0 and monotonic() - began < 2
    assert not (tmp_path / "s.db.port").exists() and not (tmp_path / "s.db-wal").exists()
    exchange.stop()  # twice is once
    assert (tmp_path / "s.db.log").read_text() == ""


def test_a_request_that_hangs_does_not_keep_it(start):
    exchange, answers = start(), []
    room.arm_fault(exchange.rest_url, "hang_after")
    order = {"symbol": "AAPL", "qty": 1, "side": "buy", "type": "market", "time_in_force": "cls"}
    keys = {"APCA-API-KEY-ID": "key", "APCA-API-SECRET-KEY": "secret"}
    asked = partial(requests.post, f"{exchange.rest_url}/v2/orders", json=order, headers=keys, timeout=10)
    sender = threading.Thread(target=lambda: answers.append(asked().status_code))
    sender.start()
    while not counters(exchange.rest_url)["accepted"]:
        sleep(0.01)
    began = monotonic()
    exchange.stop()
    assert exchange._process.returncode == 0 and monotonic() - began < 3
    sender.join(10)
    assert answers == [504]


def test_another_process_finds_it_and_may_stop_it(start, tmp_path):
    exchange = start()
    code = f"from pathlib import Path; from mlt_lib.exchange.process import find_exchange; find_exchange(Path({str(tmp_path / 's.db')!r})).stop()"
    stopper = subprocess.Popen([sys.executable, "-c", code])
    assert exchange._process.wait(10) == 0
    assert stopper.wait(10) == 0


def test_a_process_that_will_not_go_is_killed(start, monkeypatch):
    exchange = start()
    os.kill(exchange.pid, signal.SIGSTOP)
    monkeypatch.setattr(room, "STOP_SECONDS", 0.2)
    exchange.stop()
    assert exchange._process.returncode == -signal.SIGKILL


PARENT = """
import sys, time
from pathlib import Path
from mlt_lib.exchange.process import start_exchange
print(start_exchange(Path(sys.argv[1]), Path(sys.argv[2]), "test").pid, flush=True)
time.sleep(60)
"""


def test_it_leaves_within_a_second_of_its_parents_death_and_the_next_start_succeeds(start, tmp_path, tape_file):
    command = [sys.executable, "-c", PARENT, str(tmp_path / "s.db"), str(tape_file)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()  # not waited for: a dead parent that isn't buried yet is dead all the same
    exchange = start()  # waits for the lock rather than failing
    assert exchange.pid != pid and gone(pid, 1.0)
    parent.wait(5)
    parent.stdout.close()


def test_a_stale_port_file_proves_nothing(start, tmp_path):
    exchange = start()
    path = tmp_path / "s.db.port"
    told = json.loads(path.read_text())
    assert told == {"port": int(exchange.rest_url.rsplit(":", 1)[1]), "pid": exchange.pid, "account": "test"}
    for wrong in (told | {"pid": 1}, told | {"account": "other"}, told | {"port": 1}, {}, [], "x"):
        path.write_text(json.dumps(wrong))
        assert find_exchange(tmp_path / "s.db") is None
    path.write_text("{")
    assert find_exchange(tmp_path / "s.db") is None and find_exchange(tmp_path / "none.db") is None


def test_an_exchange_that_never_answers_is_given_up_and_ended(start, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "find_exchange", lambda state: None)
    monkeypatch.setattr(room, "START_SECONDS", 0.3)
    with pytest.raises(BrokerError, match="did not answer within 0 s; its log is .*s.db.log"):
        start()
    monkeypatch.undo()
    start()  # nothing holds the file


def test_a_crash_at_the_start_is_told_with_its_last_line(start, monkeypatch):
    monkeypatch.setattr(room.sys, "executable", "/bin/false")
    with pytest.raises(BrokerError, match="did not start: exit code 1 without a word"):
        start()


@contextmanager
def stranger(status, body):
    "A web server that is no exchange."

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            return

    web = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{web.server_port}"
    finally:
        web.shutdown()
        web.server_close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b'{"exchange": "NYSE"}', "is not a simulated exchange"),
        (200, b"[]", "is not a simulated exchange"),
        (200, b"<html>", "no simulated exchange answers there"),
        (404, b"<html>", "refused to count: HTTP 404"),
        (403, b'{"message": "forbidden."}', "refused to count: forbidden."),
    ],
)
def test_a_stranger_is_not_an_exchange(status, body, message):
    with stranger(status, body) as url:
        assert not is_simulated(url)
        with pytest.raises(BrokerError, match=message):
            counters(url)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert not is_simulated(url)
    with pytest.raises(BrokerError, match="no simulated exchange answers there .*start one first"):
        advance(url, "2022-11-23")


def test_a_proxy_is_never_asked(start, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert is_simulated(start().rest_url)


def test_it_starts_within_a_second_of_processor_time(start):
    exchange = start()
    if not os.path.exists(f"/proc/{exchange.pid}/stat"):
        pytest.skip("needs procfs to read the processor time")
    with open(f"/proc/{exchange.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    assert (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") < 1.0


# The program itself, run within the test


def arguments_for(tmp_path, tape_file, *more):
    return [f"--state={tmp_path / 's.db'}", f"--tape={tape_file}", "--account=test", *more]


def test_an_exchange_whose_parent_is_long_gone_ends_at_once(tmp_path, tape_file):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(10)
    port_file = tmp_path / "port"
    assert server.main(arguments_for(tmp_path, tape_file, f"--parent={child.pid}", f"--port-file={port_file}")) == 0
    assert not port_file.exists()


def test_it_serves_until_the_parent_that_is_not_its_own_is_gone(tmp_path, tape_file):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.6)"])
    threading.Thread(target=child.wait, daemon=True).start()
    began = monotonic()
    assert server.main(arguments_for(tmp_path, tape_file, f"--parent={child.pid}")) == 0
    assert 0.3 < monotonic() - began < 5


def test_a_signal_ends_it(tmp_path, tape_file):
    threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert server.main(arguments_for(tmp_path, tape_file, f"--parent={os.getppid()}")) == 0


def test_refusals_have_exit_code_2_and_one_line(tmp_path, tape_file, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert server.main(arguments_for(tmp_path, tape_file, f"--port={taken.getsockname()[1]}")) == 2
    assert server.main(arguments_for(tmp_path, tmp_path / "nowhere.csv")) == 2
    with pytest.raises(SystemExit) as usage:
        server.main(arguments_for(tmp_path, tape_file, "--cash=lots"))
    assert usage.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "is busy" in lines[0] and "no such price tape" in lines[1] and "'lots' is not a number" in lines[-1]
    assert Decimal(server.arguments(arguments_for(tmp_path, tape_file)).cash) == 100_000


def test_only_its_own_parent_or_a_living_one_keeps_it():
    assert server._lives(os.getppid(), ours=True) and not server._lives(os.getpid(), ours=True)
    assert server._lives(1, ours=False)


def test_a_dead_process_is_dead_before_it_is_buried(monkeypatch):
    child = subprocess.Popen([sys.executable, "-c", ""])
    assert gone(child.pid, 5)  # nobody has asked for its exit code yet
    child.wait()
    assert not is_alive(child.pid)
    for error, alive in (
        (PermissionError, True),
        (ProcessLookupError, False),
        (FileNotFoundError, sys.platform != "linux"),
    ):
        monkeypatch.setattr(room.os, "kill", lambda *_, error=error: (_ for _ in ()).throw(error))
        assert is_alive(1) is alive
