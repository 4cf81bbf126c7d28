"Collections: side by side, resumable, one source down stops no other; killed between pages nothing is fetched twice or lost."

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from itertools import count

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlt_lib.data.gather as gather_room
from mlt_lib.data.embedded import SampleBars
from mlt_lib.data.gather import Errand, gather
from mlt_lib.data.keep import Answer, keep_bars, withdraw_missing
from mlt_lib.data.source import BAR_COLUMNS, Ask, BarPage, TextPage, no_texts
from mlt_lib.errors import SourceError, StoreError
from mlt_lib.store.bars import read_actions, read_bars
from mlt_lib.store.database import open_database
from mlt_lib.store.fetches import fetched_spans, open_failures
from mlt_lib.store.quarantine import read_quarantine
from mlt_lib.store.texts import read_texts

NAMES = ("AAPL", "KO", "PEP", "XOM")
SPAN = date(2022, 12, 1), date(2022, 12, 28)
WANTED = Ask(NAMES, *SPAN)
ROWS = 19  # sessions in SPAN


class Vendor:
    "The sample a symbol a page; `script` says what goes wrong at which symbol, each fault once."

    kind, note = "bars", "the sample, by the symbol"

    def __init__(self, name="vendor", script=(), per_minute=None, pause=0.0):
        self.name, self.script, self.per_minute, self.pause = name, list(script), per_minute, pause
        self.asked: list[str] = []
        self.asks: list[Ask] = []

    def pages(self, ask: Ask) -> Iterator[BarPage]:
        self.asks.append(ask)
        for symbol in ask.symbols:
            self.asked.append(symbol)
            time.sleep(self.pause)
            fault = next((fault for fault in self.script if fault[0] == symbol), None)
            if fault:
                self.script.remove(fault)
                raise fault[1]
            yield from SampleBars().pages(replace(ask, symbols=(symbol,)))


def busy(symbol, **how):
    return symbol, SourceError(f"vendor: too busy for {symbol}.", again=True, **how)


@pytest.fixture
def engine(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path}/desk.db")
    yield engine
    engine.dispose()


def collect(engine, *vendors, ask=WANTED, again=False, patience=3):
    return gather(engine, [Errand(v, ask, again) for v in vendors], patience=patience, first_seconds=0.001).outcomes


def stored(engine, source="vendor"):
    return read_bars(engine, source)["close"]


def test_all_of_it_comes_in_and_a_second_time_nothing_is_asked(engine):
    vendor = Vendor()
    (first,) = collect(engine, vendor)
    assert (first.kept.new, first.error, first.unanswered, vendor.asked) == (ROWS * 4, "", (), list(NAMES))
    (second,) = collect(engine, vendor)
    assert (second.kept.new, second.pages, second.stored, vendor.asked) == (0, 0, 4, list(NAMES))
    longer = replace(WANTED, start=date(2022, 11, 21), end=date(2022, 12, 20))
    (third,) = collect(engine, vendor, ask=longer)
    assert [(ask.start, ask.end) for ask in vendor.asks[1:]] == [(date(2022, 11, 21), date(2022, 11, 30))]
    assert third.kept.new == 7 * 4 and third.kept.unchanged == 0


def test_new_sessions_bring_the_few_before_them_along(engine):
    vendor = Vendor()
    collect(engine, vendor, ask=replace(WANTED, end=date(2022, 12, 20)))
    (second,) = collect(engine, vendor)
    assert [(ask.start, ask.end) for ask in vendor.asks[1:]] == [(date(2022, 12, 14), SPAN[1])]
    assert (second.kept.new, second.kept.unchanged) == (5 * 4, 5 * 4)


def test_a_busy_source_is_asked_again_for_what_is_open_only(engine):
    vendor = Vendor(script=[busy("KO"), busy("KO"), busy("XOM", wait_seconds=0.05)])
    (got,) = collect(engine, vendor)
    assert got.error == "" and got.kept.new == ROWS * 4
    assert vendor.asked == ["AAPL", "KO", "KO", "KO", "PEP", "XOM", "XOM"]


def test_progress_renews_patience(engine):
    vendor = Vendor(script=[busy(symbol) for symbol in NAMES for _ in range(2)])
    (got,) = collect(engine, vendor, patience=3)
    assert got.error == "" and len(vendor.asked) == 4 + 8


def test_one_symbol_that_never_works_does_not_cost_the_others(engine):
    vendor = Vendor(script=[busy("KO") for _ in range(99)])
    (got,) = collect(engine, vendor, patience=2)
    assert "too busy for KO" in got.error and got.unanswered == ("KO",)
    assert sorted(stored(engine)) == ["AAPL", "PEP", "XOM"]
    assert open_failures(engine)["source"].tolist() == ["vendor"]
    (later,) = collect(engine, Vendor())
    assert later.error == "" and open_failures(engine).empty and sorted(stored(engine)) == sorted(NAMES)


def test_a_source_that_is_down_is_left_alone_after_three_failures(engine):
    vendor = Vendor(script=[busy(symbol) for symbol in NAMES for _ in range(99)])
    (got,) = collect(engine, vendor, patience=2)
    assert got.error and got.unanswered == NAMES and len(vendor.asked) == 3 * 2


def test_a_refused_key_is_asked_once_and_stops_nobody_else(engine):
    bad = Vendor("locked", [("AAPL", SourceError("locked: the key was revoked; set MLT_X_KEY."))])
    good = Vendor("good", pause=0.01)
    one, two = collect(engine, bad, good)
    assert one.error.startswith("locked: the key was revoked") and bad.asked == ["AAPL"] and one.unanswered == NAMES
    assert two.error == "" and two.kept.new == ROWS * 4
    assert open_failures(engine)[["source", "reason"]].values.tolist() == [["locked", one.error]]


def test_a_fault_of_ours_is_a_line_with_its_place_and_stops_nobody_else(engine):
    one, two = collect(engine, Vendor("broken", [("AAPL", KeyError("close"))]), Vendor("good"))
    assert "a fault of ours (KeyError at test_data_gather.py:" in one.error and "\n" not in one.error
    assert two.kept.new == ROWS * 4


def test_a_database_that_fails_stops_everything(engine, monkeypatch):
    def full(*_, **__):
        raise StoreError("database can't grow: the disk is full.")

    monkeypatch.setattr("mlt_lib.data.keep.write_bars", full)
    with pytest.raises(StoreError, match="disk is full"):
        collect(engine, Vendor())


def test_sources_are_asked_side_by_side(engine):
    gate = threading.Barrier(4, timeout=30)  # opens when four ask at once; one after the other they would never meet

    class Meeting(Vendor):
        def pages(self, ask):
            gate.wait()
            yield from super().pages(ask)

    got = collect(engine, *(Meeting(f"v{n}") for n in range(4)))
    assert [o.error for o in got] == [""] * 4 and all(o.kept.new == ROWS * 4 for o in got)


def test_the_pace_of_a_source_is_kept(engine):
    vendor = Vendor(per_minute=600)
    started = time.monotonic()
    collect(engine, vendor)
    assert time.monotonic() - started >= 3 * 0.1


def test_unknown_symbols_are_named_and_asked_for_again(engine):
    vendor = Vendor()
    ask = replace(WANTED, symbols=("KO", "NOPE"))
    for _ in range(2):
        (got,) = collect(engine, vendor, ask=ask)
        assert got.unknown == ("NOPE",) and "not known to it: NOPE" in got.sentence and got.error == ""
    assert vendor.asked == ["KO", "NOPE", "NOPE"] and fetched_spans(engine, "vendor", "bars").keys() == {"KO"}


def test_in_a_notebook_where_a_loop_runs_already(engine):
    import asyncio

    async def cell():
        return collect(engine, Vendor())

    assert asyncio.run(cell())[0].kept.new == ROWS * 4


def test_progress_is_told_by_source(engine):
    told = []
    gather(engine, [Errand(Vendor(), WANTED)], tell=lambda *step: told.append(step))
    assert told == [("vendor", n, 4) for n in range(5)]


class Given:
    "A source that answers one page, as given."

    name, note, per_minute, kind = "given", "", None, "bars"

    def __init__(self, page, kind="bars"):
        self.page, self.kind = page, kind

    def pages(self, ask):
        yield self.page


def bars(rows) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["symbol", "session", "close"]).astype({"symbol": "str"})
    return table.assign(session=pd.to_datetime(table["session"])).reindex(columns=list(BAR_COLUMNS))


KO = [("KO", f"2022-12-{day:02d}", 60.0 + day / 10) for day in (12, 13, 14, 15, 16, 19, 20)]
WEEK = Ask(("KO",), date(2022, 12, 12), date(2022, 12, 20))


def test_what_a_source_takes_back_is_withdrawn_and_what_it_corrects_is_restated(engine):
    collect(engine, Given(BarPage(bars(KO), complete=("KO",))), ask=WEEK)
    changed = [KO[0], ("KO", KO[1][1], 61.55), *KO[3:]]
    (got,) = collect(engine, Given(BarPage(bars(changed), complete=("KO",))), ask=WEEK, again=True)
    assert (got.kept.new, got.kept.restated, got.kept.withdrawn) == (0, 1, 1)
    assert stored(engine, "given")["KO"].to_dict().get(pd.Timestamp("2022-12-14")) is None
    (back,) = collect(engine, Given(BarPage(bars(KO), complete=("KO",))), ask=WEEK, again=True)
    assert back.kept.withdrawn == 0 and stored(engine, "given")["KO"].tolist() == [close for *_, close in KO]


def test_an_answer_that_is_not_complete_withdraws_nothing(engine):
    collect(engine, Given(BarPage(bars(KO), complete=("KO",))), ask=WEEK)
    (got,) = collect(engine, Given(BarPage(bars(KO[:2]))), ask=WEEK, again=True)
    assert got.kept.withdrawn == 0 and got.unanswered == ("KO",) and len(stored(engine, "given")) == 7


def test_a_source_that_lost_everything_is_broken_not_believed(engine):
    collect(engine, Given(BarPage(bars(KO), complete=("KO",))), ask=WEEK)
    (got,) = collect(engine, Given(BarPage(complete=("KO",))), ask=WEEK, again=True)
    assert got.kept.withdrawn == 0 and len(stored(engine, "given")) == 7
    assert (read_quarantine(engine)["rule"] == "vanished").sum() == 7


def test_what_nobody_asked_for_is_listed_and_not_stored(engine):
    strange = bars([*KO, ("XOM", "2022-12-12", 105.0), ("KO", "2022-12-21", 63.9)])
    collect(engine, Given(BarPage(strange, complete=("KO",))), ask=WEEK)
    assert list(stored(engine, "given")) == ["KO"] and len(stored(engine, "given")) == 7
    assert (read_quarantine(engine)["rule"] == "not-asked").sum() == 2


def test_bars_and_actions_go_in_together_and_bad_ones_stay_out(engine):
    full = bars(KO).assign(
        open=lambda t: t["close"], high=lambda t: t["close"] + 1, low=lambda t: t["close"] - 1, volume=1e6
    )
    full.loc[3, "high"] = full.loc[3, "close"] - 0.5
    told = pd.DataFrame(
        {"symbol": ["KO"], "session": [pd.Timestamp("2022-12-14")], "kind": ["dividend"], "value": [0.44]}
    )
    collect(engine, Given(BarPage(full, told, complete=("KO",))), ask=WEEK)
    assert len(stored(engine, "given")) == 6 and read_actions(engine, "given")["value"].tolist() == [0.44]
    held = read_quarantine(engine)
    assert set(held["session"].dt.day) == {15} and (held["outcome"] == "reject").all()


def test_two_closes_of_one_session_are_held_back(engine):
    collect(engine, Given(BarPage(bars([*KO, ("KO", "2022-12-13", 99.0)]), complete=("KO",))), ask=WEEK)
    assert "conflict" in set(read_quarantine(engine)["rule"])
    assert pd.Timestamp("2022-12-13") not in stored(engine, "given").index


def test_texts_are_kept_and_today_is_asked_again(engine):
    today = pd.Timestamp.now("UTC").date()
    at = pd.Timestamp(today - timedelta(days=1), tz="UTC") + pd.Timedelta(hours=15)
    row = dict(item_id="1", symbols=("KO",), published=at, updated=at, title="Up", body="", author="", url="", raw="{}")
    texts = pd.concat([no_texts(), pd.DataFrame([row])]).astype(no_texts().dtypes.to_dict())
    ask = Ask(("KO",), today - timedelta(days=3), today)
    asked = []

    class Newsroom(Given):
        def pages(self, ask):
            asked.append((ask.start, ask.end))
            yield replace(self.page, complete=ask.symbols if ask.end < today else ())

    for _ in range(2):
        (got,) = collect(engine, Newsroom(TextPage(texts), "news"), ask=ask)
        assert (got.error, got.unanswered) == ("", ())
    past = (ask.start, today - timedelta(days=1))
    assert asked == [past, (today, today), (today, today)]
    assert read_texts(engine, "news")["title"].tolist() == ["Up"]
    assert fetched_spans(engine, "given", "news") == {"KO": [past]}


FAULT = st.tuples(st.sampled_from(NAMES), st.booleans())


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('any')}/desk.db")
    yield engine, count(1)
    engine.dispose()


@settings(max_examples=6, deadline=None)
@given(st.lists(FAULT, max_size=6), st.integers(1, 3))
def test_whatever_fails_in_whatever_order_the_end_is_the_same(shared, faults, patience):
    "Faults at random, runs until there is no error: the store holds what an undisturbed run leaves."
    engine, number = shared
    script = [(symbol, SourceError("vendor: no.", again=again)) for symbol, again in faults]
    vendor = Vendor(f"vendor{next(number)}", script)
    for _ in range(12):
        (got,) = collect(engine, vendor, patience=patience)
        if not got.error:
            break
    assert got.error == "" and got.unanswered == () and open_failures(engine).empty
    table = stored(engine, vendor.name)
    assert table.shape == (ROWS, 4) and table.notna().all(axis=None)
    assert len(vendor.asked) <= 4 + len(faults) and read_quarantine(engine).empty


class Counting(Vendor):
    "Writes down each question before it is answered."

    def __init__(self, folder):
        super().__init__()
        self.log = folder / "asked.txt"

    def pages(self, ask):
        for symbol in ask.symbols:
            with self.log.open("a") as file:
                file.write(f"{symbol}\n")
            yield from SampleBars().pages(replace(ask, symbols=(symbol,)))


def run_and_die(folder, function, at):
    "A collection that is killed for real once `function` has done its work on a page."

    def dying(plain):
        def last(*rest, **more):
            told = plain(*rest, **more)
            if len((folder / "asked.txt").read_text().split()) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return told

        return last

    setattr(gather_room, function, dying(getattr(gather_room, function)))
    collect(open_database(f"sqlite:///{folder}/desk.db"), Counting(folder))


@pytest.mark.parametrize(("function", "twice"), [("keep_bars", ["PEP"]), ("mark_fetched", [])])
@pytest.mark.parametrize("at", [1, 3])
def test_killed_between_pages_nothing_is_lost_and_nothing_that_was_stored_is_fetched_twice(
    tmp_path, function, twice, at
):
    child = multiprocessing.get_context("fork").Process(target=run_and_die, args=(tmp_path, function, at))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    engine = open_database(f"sqlite:///{tmp_path}/desk.db")
    (got,) = collect(engine, Counting(tmp_path))
    asked = (tmp_path / "asked.txt").read_text().split()
    assert got.error == "" and sorted(asked) == sorted([*NAMES, *(twice and [NAMES[at - 1]])])
    assert stored(engine).shape == (ROWS, 4) and stored(engine).notna().all(axis=None)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM bars").scalar() == ROWS * 4
    engine.dispose()


def test_keeping_a_page_twice_changes_nothing(engine):
    page, answer = BarPage(bars(KO), complete=("KO",)), Answer(WEEK)
    answer.add(page)
    first = keep_bars(engine, "given", page, WEEK)
    second = keep_bars(engine, "given", page, WEEK) + withdraw_missing(engine, "given", answer, ("KO",))
    assert (first.new, second.new, second.unchanged, second.rows) == (7, 0, 7, 0)
