"The day as a person runs it: real processes, killed for real, run again; and the rules of which sessions are due."

import os
import re
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from mlt_lib.data.collect import collect
from mlt_lib.errors import DataError, JobError, SettingsError
from mlt_lib.exchange.process import counters
from mlt_lib.execution.ledger import orders_of
from mlt_lib.execution.positions import cash, holdings
from mlt_lib.jobs.day import broker_for, choose_session, fresh_name, require_done, sessions_due
from mlt_lib.jobs.runner import Receipt
from mlt_lib.settings import Settings
from mlt_lib.store.audit import verify
from mlt_lib.store.database import open_database
from mlt_lib.store.runs import runs_frame

MLT = Path(sys.executable).with_name("mlt")
SHORT = "[universe]\nfirst_session = 2019-01-02\n[report]\ntrack_record_start = 2022-09-01\n"


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "settings.ini").write_text(SHORT)
    return tmp_path


def run(desk: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    "Run `mlt` in a desk's folder as a process of its own."
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLT_", "COV_"))}
    return subprocess.run([MLT, *words], cwd=desk, env=kept | environment, capture_output=True, text=True, timeout=240)


def state_of(desk: Path):
    "Orders by id, shares and money by the ledger, and the exchange's own counters."
    settings = Settings.find(desk / "settings.ini")
    engine = open_database(settings.database_url)
    orders = {o.client_order_id: (o.intent.symbol, o.state, o.filled_quantity) for o in orders_of(engine, "demo")}
    held, money = holdings(engine, "demo"), cash(engine, "demo", Decimal(1_000_000))
    assert verify(engine).ok
    runs = runs_frame(engine)
    engine.dispose()
    prices = collect(settings).prices
    with broker_for(settings, "demo", prices, prices.index[-1]) as address:
        told = counters(address)
    assert told["accepted"] == len(orders)
    assert {symbol: Decimal(quantity) for symbol, quantity in told["positions"].items()} == held
    assert abs(Decimal(told["cash"]) - money) < 1
    return orders, held, money, runs


@pytest.mark.process
@pytest.mark.timeout(600)
def test_killed_runs_end_as_an_undisturbed_one(desk, tmp_path_factory):
    first = run(desk, "daily", "--session", "2022-12-27")
    assert first.returncode == 0 and first.stderr == "", first.stderr

    killed = run(desk, "daily", MLT_CRASH_AT="before_ack_commit")  # in the kernel of the trade job
    assert killed.returncode == 1
    assert killed.stderr.startswith("mlt: job trade failed") and "Traceback" not in killed.stderr
    failed = (desk / "reports/trade/2022-12-28.html").read_text()
    assert "kernel died" in failed
    assert "failed" in (desk / "reports/index.html").read_text()

    again = run(desk, "daily")
    assert again.returncode == 0 and again.stderr == "", again.stderr
    undisturbed = state_of(desk)
    waiting = [state for _, state, _ in undisturbed[0].values() if state == "WORKING"]
    assert waiting

    other = tmp_path_factory.mktemp("other")
    (other / "settings.ini").write_text(SHORT)
    dead = run(other, "daily", MLT_CRASH_AT="after_post:3")  # the command itself, among the sessions before
    assert dead.returncode == -signal.SIGKILL
    resumed = run(other, "daily")
    assert resumed.returncode == 0 and resumed.stderr == "", resumed.stderr
    assert state_of(other)[:3] == undisturbed[:3]

    third = run(other, "daily", PYTHONDONTWRITEBYTECODE="1")
    assert third.returncode == 0
    orders, held, money, runs = state_of(other)
    assert (orders, held, money) == undisturbed[:3]
    assert set(runs["status"]) == {"done"}
    check_page(other, third.stdout)


def check_page(desk: Path, said: str) -> None:
    "The last lines name the report, which is one self-contained page."
    lines = said.strip().splitlines()
    page = Path(lines[-2].removeprefix("report").strip())
    assert page == desk / "reports/report/2022-12-28.html" and lines[-1].endswith("index.html")
    text = page.read_text()
    assert len(text.encode()) < 500_000 and len(re.findall("<h1", text)) == 1
    assert not re.findall(r"""(?:src|href)=["']?https?:|url\(https?:|<script|@import""", text)
    for words in ("Limits", "Orders", "Wealth and drawdown", "survivors", "audit head", "waiting"):
        assert words in text


@pytest.mark.process
def test_a_replay_has_a_book_of_its_own_and_two_of_them_differ(desk):
    for number in (1, 2):
        ended = run(desk, "replay", "--sessions", "3", "--until", "2022-12-22")
        assert ended.returncode == 0, ended.stderr
        name = "replay-20221222-3" + ("" if number == 1 else "-2")
        assert (desk / f"reports/{name}/report/2022-12-22.html").exists()
    engine = open_database(Settings.find(desk / "settings.ini").database_url)
    one, two = (orders_of(engine, name) for name in ("replay-20221222-3", "replay-20221222-3-2"))
    engine.dispose()
    assert [o.intent.payload_hash for o in one] == [o.intent.payload_hash for o in two] != []
    assert not {o.client_order_id for o in one} & {o.client_order_id for o in two}


SESSIONS = pd.DatetimeIndex(["2022-12-21", "2022-12-22", "2022-12-23", "2022-12-27", "2022-12-28"])


def test_a_new_book_begins_with_the_last_sessions():
    assert list(sessions_due(SESSIONS, SESSIONS[:0], 2)) == list(SESSIONS[-2:])
    assert list(sessions_due(SESSIONS, SESSIONS[:0], 99)) == list(SESSIONS)


def test_a_book_goes_on_where_it_stands_and_is_never_rewound():
    assert list(sessions_due(SESSIONS, SESSIONS[:3])) == list(SESSIONS[2:])
    assert list(sessions_due(SESSIONS, SESSIONS)) == [SESSIONS[-1]]
    with pytest.raises(DataError, match="mlt replay --until 2022-12-22"):
        sessions_due(SESSIONS[:2], SESSIONS[:4])


def test_the_session_asked_for_must_be_one():
    assert choose_session(SESSIONS) == SESSIONS[-1]
    assert choose_session(SESSIONS, "2022-12-23") == SESSIONS[2]
    for wrong, why in (("2022-12-25", "2022-12-23"), ("2021-01-04", "outside"), ("x", "YYYY-MM-DD")):
        with pytest.raises(DataError, match=why):
            choose_session(SESSIONS, wrong)


def test_replays_get_names_that_nobody_has(desk):
    settings = Settings.find(desk / "settings.ini")
    assert fresh_name(settings, SESSIONS[-1], 20) == "replay-20221228-20"
    (desk / ".mlt/exchange").mkdir(parents=True)
    (desk / ".mlt/exchange/replay-20221228-20.db").touch()
    assert fresh_name(settings, SESSIONS[-1], 20) == "replay-20221228-20-2"


def test_a_failed_job_ends_the_day_with_its_page():
    receipt = Receipt(
        "id", "trade", "failed", Path("reports/trade/x.html"), Path("x.ipynb"), 1.0, "cell 3: DataError: no"
    )
    with pytest.raises(JobError, match="(?s)cell 3: DataError: no.*reports/trade/x.html") as raised:
        require_done(receipt)
    assert raised.value.exit_code == 1


def test_a_busy_port_is_a_settings_error():
    import socket

    from mlt_lib.jobs.day import require_free_port

    require_free_port(0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SettingsError, match="busy"):
            require_free_port(other.getsockname()[1])
