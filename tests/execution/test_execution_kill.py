"Real processes, really killed: SIGKILL between the broker's answer and our commit, and between commit and sending."

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trading_day import open_desk

from mlt_lib.exchange.process import arm_fault, counters

STEP = Path(__file__).with_name("trading_day.py")


def run(folder, session, crash_at="") -> int:
    "One session in a process of its own; how it ended."
    command = [sys.executable, "-W", "ignore", str(STEP), str(folder), f"{session:%Y-%m-%d}"]
    return subprocess.run(command, env=os.environ | {"MLT_CRASH_AT": crash_at}, capture_output=True).returncode


@pytest.mark.process
@pytest.mark.parametrize(("crash_at", "fault"), [("after_post:2", None), ("after_claim", "drop_after")])
def test_a_killed_desk_is_simply_run_again(tmp_path, crash_at, fault):
    desk = open_desk(tmp_path, 3)
    with desk.exchange:
        first, second, _ = desk.prices.index
        assert run(tmp_path, first, crash_at) == -9
        if fault:
            arm_fault(desk.exchange.rest_url, fault)
        assert run(tmp_path, first) == 0
        posts = counters(desk.exchange.rest_url)["posts"]
        assert desk.step(first.date()).orders == (), "and a third time nothing is sent"
        assert counters(desk.exchange.rest_url)["posts"] == posts
        desk.wanted = lambda session, held: []
        desk.session(second.date())
        assert desk.disagreements() == []
        assert counters(desk.exchange.rest_url)["accepted"] == 3
