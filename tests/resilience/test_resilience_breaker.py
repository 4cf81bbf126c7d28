"The breaker: opens at the limit, lets one try after the rest, closes at an answer."

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mlt_lib.errors import SettingsError, SourceError
from mlt_lib.resilience.breaker import CLOSED, OPEN, TRYING, Breaker


class AsOneReads(RuleBasedStateMachine):
    "Every sequence of answers, failures and rests beside the table of the notebook, written out plainly."

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker("s", failures=3, rest_seconds=10, clock=lambda: self.now)
        self.row, self.open_since = 0, None

    @rule(seconds=st.floats(0, 15))
    def rest(self, seconds):
        self.now += seconds

    @rule(outcome=st.sampled_from(["answer", "busy", "no", "ours"]))
    def ask(self, outcome):
        went = []

        def question():
            with self.breaker.watching():
                went.append(1)
                if outcome == "ours":
                    raise ZeroDivisionError
                if outcome != "answer":
                    raise SourceError(outcome, again=outcome == "busy")

        shut = self.open_since is not None and self.now - self.open_since < 10
        trial = self.open_since is not None and not shut
        try:
            question()
        except (SourceError, ZeroDivisionError):
            assert outcome != "answer" or shut
        assert bool(went) != shut
        if shut:
            return
        if outcome == "answer":
            self.row, self.open_since = 0, None
        elif outcome != "ours":
            self.row += 1
            if trial or outcome == "no" or self.row >= 3:
                self.open_since = self.now

    @invariant()
    def the_state_is_what_it_should_be(self):
        expected = CLOSED if self.open_since is None else TRYING if self.now - self.open_since >= 10 else OPEN
        assert self.breaker.state == expected


AsOneReads.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAsOneReads = AsOneReads.TestCase


def test_only_one_of_many_threads_tries():
    breaker = Breaker("s", failures=1, rest_seconds=1, clock=iter([0.0] + [5.0] * 99).__next__)
    breaker.failed(SourceError("down", again=True))
    through, gate = [], threading.Barrier(8)

    def ask():
        gate.wait()
        try:
            breaker.admit()
            through.append(1)
        except SourceError as error:
            assert "not asked for now" in str(error) and "down" in str(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert through == [1]


def test_the_refusal_is_not_worth_another_attempt():
    breaker = Breaker("yahoo", failures=1)
    breaker.failed(SourceError("yahoo: no answer.", again=True))
    with pytest.raises(SourceError) as caught:
        breaker.admit()
    assert not caught.value.again and "\n" not in str(caught.value)


@pytest.mark.parametrize(("failures", "rest"), [(0, 60), (3, 0), (-1, 60)])
def test_an_impossible_breaker_is_refused(failures, rest):
    with pytest.raises(SettingsError, match="positive"):
        Breaker("s", failures, rest)
