"Patience: as many attempts as allowed, only where another may work, no sooner than the source wants."

import asyncio
import logging
import time

import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import SourceError, StoreError
from mlt_lib.resilience.retry import attempts, patiently, worth_another


def failing(times: int, **how):
    "A question that fails so often before it is answered, and the log of its attempts."
    asked: list[float] = []

    def ask() -> str:
        asked.append(time.monotonic())
        if len(asked) <= times:
            raise SourceError(f"source: attempt {len(asked)} failed.", **how)
        return "answer"

    return ask, asked


def test_an_answer_at_the_first_attempt_waits_for_nothing():
    ask, asked = failing(0)
    assert patiently(ask) == "answer" and len(asked) == 1


def test_it_asks_until_answered():
    ask, asked = failing(3, again=True)
    assert patiently(ask, 5, first_seconds=0.001) == "answer" and len(asked) == 4


def test_the_last_error_is_the_one_that_is_seen():
    ask, asked = failing(9, again=True)
    with pytest.raises(SourceError, match="attempt 3 failed"):
        patiently(ask, 3, first_seconds=0.001)
    assert len(asked) == 3


def test_what_will_not_work_later_is_asked_once():
    ask, asked = failing(9, again=False)
    with pytest.raises(SourceError, match="attempt 1 failed"):
        patiently(ask, 5)
    assert len(asked) == 1


@pytest.mark.parametrize("error", [StoreError("locked"), ValueError("ours"), KeyError("ours")])
def test_a_fault_that_is_not_the_source_s_is_not_repeated(error):
    asked = []

    def ask():
        asked.append(1)
        raise error

    with pytest.raises(type(error)):
        patiently(ask, 5)
    assert len(asked) == 1


def test_the_wait_that_the_source_names_is_kept():
    ask, asked = failing(2, again=True, wait_seconds=0.08)
    patiently(ask, 5, first_seconds=0.001)
    assert all(later - earlier >= 0.079 for earlier, later in zip(asked, asked[1:], strict=False))


def test_a_source_that_wants_more_time_than_there_is_counts_as_down():
    ask, asked = failing(1, again=True, wait_seconds=600)
    with pytest.raises(SourceError):
        patiently(ask, 5, longest_seconds=60)
    assert len(asked) == 1


@settings(max_examples=100, deadline=None)
@given(st.booleans(), st.one_of(st.none(), st.floats()), st.floats(0.1, 1e6))
def test_a_verdict_is_no_or_yes_or_a_wait_within_the_longest(again, wait, longest):
    told = worth_another(SourceError("x", again=again, wait_seconds=wait), longest)
    if told is not False and told is not True:
        assert 0 <= told <= longest
    assert again or told is False


def test_in_a_coroutine_the_loop_is_free_while_it_waits():
    async def main():
        ticks = []

        async def tick():
            while True:
                ticks.append(1)
                await asyncio.sleep(0.005)

        beside = asyncio.create_task(tick())
        ask, _ = failing(2, again=True, wait_seconds=0.05)
        async for attempt in attempts(5):
            with attempt:
                ask()
        beside.cancel()
        return len(ticks)

    assert asyncio.run(main()) >= 5


def test_a_wait_writes_nothing_on_the_screen(capfd):
    logging.getLogger("stamina").setLevel(logging.WARNING)
    ask, _ = failing(2, again=True)
    patiently(ask, 5, first_seconds=0.001)
    assert capfd.readouterr() == ("", "")


def test_tests_of_others_can_switch_the_waiting_off():
    ask, asked = failing(1, again=True)
    with stamina.set_testing(True, attempts=2):
        patiently(ask, 5, first_seconds=30)
    assert len(asked) == 2
