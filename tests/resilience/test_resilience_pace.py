"The pace: never faster than allowed in any window, no slower than need be, shared by threads."

import asyncio
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import SettingsError
from mlt_lib.resilience.pace import Pace

GAPS = st.lists(st.floats(0, 20), min_size=1, max_size=60)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 600), st.integers(1, 10), GAPS)
def test_no_window_holds_more_than_the_burst_and_the_rate(per_minute, burst, gaps):
    now = [0.0]
    pace, went = Pace(per_minute, burst, clock=lambda: now[0]), []
    for gap in gaps:
        now[0] += gap
        went.append(now[0] + pace.reserve())
    assert went == sorted(went), "first come, first served"
    times = np.array(went)
    for i in range(len(times)):
        inside = np.arange(1, len(times) - i + 1)
        assert (inside <= burst + (times[i:] - times[i]) * per_minute / 60 + 1e-6).all()


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 600), st.integers(1, 10), GAPS)
def test_nobody_waits_without_need(per_minute, burst, gaps):
    "Beside a bucket of tokens kept by the book."
    now, tokens, filled = [0.0], float(burst), 0.0
    pace = Pace(per_minute, burst, clock=lambda: now[0])
    for gap in gaps:
        now[0] += gap
        tokens = min(burst, tokens + (now[0] - filled) * per_minute / 60) - 1
        filled = now[0]
        assert pace.reserve() == pytest.approx(max(0.0, -tokens * 60 / per_minute), abs=1e-6)


def test_threads_share_a_pace():
    pace, went, lock = Pace(1200, clock=time.monotonic), [], threading.Lock()

    def ask():
        for _ in range(3):
            pace.wait()
            with lock:
                went.append(time.monotonic())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    started = time.monotonic()
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(went) == 12 and max(went) - started >= 11 * 0.05 - 0.005


def test_coroutines_share_it_and_leave_the_loop_free():
    async def main():
        pace = Pace(1200)
        started = time.monotonic()
        await asyncio.gather(*(pace.turn() for _ in range(6)))
        return time.monotonic() - started

    assert asyncio.run(main()) >= 0.245


def test_a_pause_binds_all_and_is_never_shortened():
    pace = Pace(60, burst=5, clock=lambda: 50.0)
    pace.pause(30)
    pace.pause(1)
    assert pace.reserve() == pytest.approx(30)


def test_without_a_limit_nobody_waits():
    pace = Pace(None)
    assert [pace.reserve() for _ in range(100)] == [0.0] * 100 and "unlimited" in repr(pace)


@pytest.mark.parametrize(("per_minute", "burst"), [(0, 1), (-5, 1), (60, 0)])
def test_an_impossible_pace_is_refused(per_minute, burst):
    with pytest.raises(SettingsError, match="1 or more"):
        Pace(per_minute, burst)
