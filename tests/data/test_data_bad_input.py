"""What comes in from outside may be anything: each bad input ends in one clear line or in quarantine, and the rest goes on.

End to end, by the call behind `mlt ingest`: real settings, real clients, a real database, and a server on loopback that
refuses, storms, lies and breaks off. The sources have tests of their own for every fault; here is what a desk makes of it.
"""

import re
from datetime import UTC, datetime

import pandas as pd
import pytest
from fixture_server import KEY, NEWSAPI_KEY, REDDIT_ID, REDDIT_SECRET, SECRET, made_bars, serving
from sqlalchemy import text

from mlt_lib.errors import DataError, MltError, SettingsError, StoreError
from mlt_lib.jobs.gather import ingest
from mlt_lib.settings import Settings
from mlt_lib.store.bars import read_bars, read_quarantine
from mlt_lib.store.database import open_database
from mlt_lib.store.texts import read_texts

NOW = datetime(2022, 4, 10, tzinfo=UTC)
SPAN = {"start": "2022-01-03", "end": "2022-01-31", "now": NOW}
KEYS = {
    "MLT_BROKER_KEY": KEY,
    "MLT_BROKER_SECRET": SECRET,
    "MLT_NEWSAPI_KEY": NEWSAPI_KEY,
    "MLT_REDDIT_ID": REDDIT_ID,
    "MLT_REDDIT_SECRET": REDDIT_SECRET,
}
LONG = "symbol,date,open,high,low,close,volume\n" + "".join(
    f"KO,2022-01-{day:02},50,51,49,50.{day:02},10{day:02}\n" for day in (3, 4, 5, 6, 7, 10)
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    import os

    for name in [name for name in os.environ if name.startswith("MLT_") and not name.startswith("MLT_TEST")]:
        monkeypatch.delenv(name)


@pytest.fixture
def vendors():
    with serving() as vendors:
        yield vendors


@pytest.fixture
def desk(tmp_path, vendors):
    "Settings of a desk that takes the fixture for every vendor, and has a file of its own."

    def make(more: str = "", table: str | bytes = LONG) -> Settings:
        (tmp_path / "mine.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
        urls = "".join(f"{name}_url = {vendors.url}\n" for name in ("alpaca", "yahoo", "newsapi", "reddit"))
        sources = f"[sources]\n{urls}attempts = 2\nrequest_timeout_seconds = 2\nalpaca_per_minute = 6000\n"
        (tmp_path / "settings.ini").write_text(f"[data]\npath = mine.csv\n{sources}{more}")
        return Settings.find(tmp_path / "settings.ini")

    return make


def stored(settings: Settings, source: str) -> pd.DataFrame:
    "The closes that are in the database, none where there is no bar."
    engine = open_database(settings.database_url)
    source = f"files:{settings.data.path}" if source == "files" else source
    try:
        return read_bars(engine, source)["close"]
    except DataError:
        return pd.DataFrame()
    finally:
        engine.dispose()


def held(settings: Settings) -> pd.DataFrame:
    "The quarantine."
    engine = open_database(settings.database_url)
    try:
        return read_quarantine(engine)
    finally:
        engine.dispose()


def one_line(said: object, *parts: str) -> None:
    "A clear line: short, without a trace, a secret, or a page of HTML."
    line = str(said)
    assert "\n" not in line and "Traceback" not in line and "<body" not in line and 10 < len(line) < 400, line
    assert not any(secret in line for secret in KEYS.values()), line
    assert all(part in line for part in parts), line


def outcome(gathered, source: str):
    return next(o for o in gathered.outcomes if o.source.split(":")[0] == source)


# keys


@pytest.mark.parametrize(
    "source, name", [("alpaca", "MLT_BROKER_SECRET"), ("newsapi", "MLT_NEWSAPI_KEY"), ("reddit", "MLT_REDDIT_SECRET")]
)
def test_a_wrong_key_is_one_line_and_the_files_go_on(desk, source, name):
    settings = desk()
    found = ingest(settings, f"{source},files", ("KO",), environment=KEYS | {name: "wrong-secret-key"}, **SPAN)
    one_line(outcome(found, source).error, source, name)
    assert "wrong-secret-key" not in outcome(found, source).error
    assert not outcome(found, "files").error and len(stored(settings, "files")) == 6


def test_a_missing_key_names_its_variable_and_the_files_go_on(desk):
    settings = desk()
    found = ingest(settings, "alpaca,files", ("KO",), environment={}, **SPAN)
    one_line(outcome(found, "alpaca").error, "MLT_BROKER_KEY")
    assert outcome(found, "files").kept.new == 6
    with pytest.raises(SettingsError, match="MLT_BROKER_KEY"):
        ingest(settings, "alpaca", ("KO",), environment={}, **SPAN)


def test_a_key_revoked_between_pages_leaves_what_came_and_the_next_run_goes_on(desk, vendors):
    settings, told = desk(), []
    vendors.page = 25  # of 40 bars: all of AAPL's and some of KO's

    def revoke(*step) -> None:
        told.append(step)
        if len(vendors.asked("stocks/bars")) == 1 and not vendors.faults:
            vendors.fail(*["401"] * 50, on="stocks/bars")

    found = ingest(settings, "alpaca", ("AAPL", "KO"), environment=KEYS, tell=revoke, **SPAN)
    one_line(outcome(found, "alpaca").error, "alpaca", "MLT_BROKER_KEY")
    assert stored(settings, "alpaca").notna().sum().to_dict() == {"AAPL": 20, "KO": 5} and len(told) > 1
    vendors.faults.clear()
    found = ingest(settings, "alpaca", ("AAPL", "KO"), environment=KEYS, **SPAN)
    assert not found.down and found.outcomes[0].kept.new == 15
    assert stored(settings, "alpaca").notna().sum().to_dict() == {"AAPL": 20, "KO": 20}


# answers that are none


@pytest.mark.parametrize("fault", ["429", "html", "half", "truncated"])
def test_a_vendor_that_answers_nothing_readable_is_one_line_and_the_others_go_on(desk, vendors, fault):
    settings = desk()
    vendors.wait = {"Retry-After": "0"}
    vendors.fail(*[fault] * 400, on="stocks/bars")
    vendors.fail(*[fault] * 400, on="corporate-actions")
    found = ingest(settings, "alpaca,yahoo,files", ("KO",), environment=KEYS, **SPAN)
    one_line(outcome(found, "alpaca").error, "alpaca")
    assert stored(settings, "alpaca").empty
    assert outcome(found, "yahoo").kept.new > 15 and outcome(found, "files").kept.new == 6
    assert len(vendors.asked("stocks/bars")) + len(vendors.asked("corporate-actions")) <= 12  # patience has an end


def test_a_storm_that_passes_costs_patience_and_no_row(desk, vendors):
    settings = desk("")
    vendors.wait = {"Retry-After": "0"}
    vendors.fail("429", on="stocks/bars")
    found = ingest(settings, "alpaca", ("AAPL", "KO"), environment=KEYS, **SPAN)
    assert not found.down and stored(settings, "alpaca").notna().all().all() and len(stored(settings, "alpaca")) == 20


@pytest.mark.parametrize("source", ["yahoo", "newsapi", "reddit", "alpaca_news"])
@pytest.mark.parametrize("fault", ["html", "half"])
def test_the_same_of_every_other_vendor(desk, vendors, source, fault):
    settings = desk()
    vendors.fail(*[fault] * 400)
    found = ingest(settings, f"{source},files", ("KO",), environment=KEYS, **SPAN)
    one_line(outcome(found, source).error, source.removesuffix("_news"))
    assert outcome(found, "files").kept.new == 6


# rows that can't be


def test_a_skewed_clock_and_impossible_prices_are_listed_and_the_rest_is_kept(desk, vendors):
    rows = [row for row in made_bars("KO", 50.0) if row["session"] >= pd.Timestamp("2022-01-03")][:12]
    rows[2]["t"] = "2022-01-05T17:30:00Z"  # not midnight in New York
    rows[3]["t"] = "2031-01-06T05:00:00Z"  # yet to come
    rows[4]["c"] = -1.0
    rows[5]["c"] = float("nan")
    rows[6]["h"] = float("inf")
    rows[7]["o"] = "fifty"
    vendors.bars["KO"] = rows
    settings = desk()
    found = ingest(settings, "alpaca", ("AAPL", "KO"), environment=KEYS, **SPAN)
    assert not found.down
    closes, listed = stored(settings, "alpaca"), held(settings)
    assert closes["AAPL"].notna().sum() == 20
    good = {f"{rows[n]['session']:%F}" for n in (0, 1, 8, 9, 10, 11)}
    assert {f"{day:%F}" for day in closes.index[closes["KO"].notna()]} == good
    assert {"clock", "unfinished"} <= set(listed["rule"]) and (listed["symbol"] == "KO").any()
    assert len(listed[listed["symbol"] == "KO"]) >= 6 and listed["detail"].str.len().gt(5).all()


def test_texts_from_the_future_are_listed_and_the_rest_is_kept(desk, vendors):
    item = {"id": 1, "headline": "KO up", "author": "a", "created_at": "2022-01-05T15:00:00Z", "updated_at": "2022-01-05T15:00:00Z",
            "summary": "", "content": "", "url": "http://x", "images": [], "symbols": ["KO"], "source": "b"}  # fmt: skip
    ahead = item | {"id": 2, "created_at": "2099-01-05T15:00:00Z"}
    half = item | {"id": 3, "headline": "half \ud83d a pair"}
    vendors.news = [item, ahead, half]
    settings = desk()
    found = ingest(settings, "alpaca_news", ("KO",), environment=KEYS, **SPAN)
    assert not found.down and found.outcomes[0].kept.new == 2
    engine = open_database(settings.database_url)
    assert set(read_texts(engine, "news")["title"]) == {"KO up", "half ? a pair"}
    engine.dispose()
    assert held(settings)["rule"].tolist() == ["clock"]


# symbols


@pytest.mark.parametrize("source", ["alpaca", "yahoo"])
def test_an_unknown_symbol_is_named_and_the_others_come(desk, vendors, source):
    vendors.invalid = {"NOPE"}
    settings = desk()
    found = ingest(settings, source, ("AAPL", "NOPE", "KO"), environment=KEYS, **SPAN)
    assert not found.down and "NOPE" in found.outcomes[0].unknown and "NOPE" in found.outcomes[0].sentence
    assert list(stored(settings, source)) == ["AAPL", "KO"]


@pytest.mark.parametrize("source", ["alpaca", "yahoo"])
def test_a_delisted_symbol_keeps_its_past_and_is_not_asked_for_again(desk, vendors, source):
    vendors.bars["KO"] = [row for row in made_bars("KO", 50.0) if row["session"] <= pd.Timestamp("2022-01-14")]
    settings = desk()
    found = ingest(settings, source, ("AAPL", "KO"), environment=KEYS, **SPAN)
    assert not found.down
    closes = stored(settings, source)
    assert closes["KO"].last_valid_index() == pd.Timestamp("2022-01-14") and closes["AAPL"].notna().all()
    vendors.requests.clear()
    assert ingest(settings, source, ("AAPL", "KO"), environment=KEYS, **SPAN).outcomes[0].stored == 2
    assert not vendors.asked("stocks/bars") and not vendors.asked("chart")


# files


@pytest.mark.parametrize(
    "table, told",
    [
        ("colour,taste\nred,sweet\n", "mine.csv"),
        ("symbol,date,volume\nKO,2022-01-03,5\n", "mine.csv"),
        ("symbol,close\nKO,50\n", "mine.csv"),
        ("", "mine.csv"),
        (b"\x00\xff\x00\xff" * 50, "mine.csv"),
        (b"PK\x03\x04 a spreadsheet", "mine.csv"),
        ("symbol,date,close,currency\nKO,2022-01-03,50,EUR\n", "EUR"),
        ("symbol,date,close\nKO,01/02/2022,50\nKO,03/02/2022,51\n", "mine.csv"),  # two days each
        ("symbol,date,close\nKO,someday,50\n", "mine.csv"),
    ],
)
def test_a_file_that_cannot_be_meant_is_one_line_and_the_vendor_goes_on(desk, table, told):
    settings = desk(table=table)
    found = ingest(settings, "files,alpaca", ("KO",), environment=KEYS, **SPAN)
    one_line(outcome(found, "files").error, told)
    assert not outcome(found, "alpaca").error and len(stored(settings, "alpaca")) == 20


@pytest.mark.parametrize("written", ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y"])
def test_dates_in_three_forms_are_the_same_days(desk, written):
    days = pd.DatetimeIndex([row["session"] for row in made_bars("KO", 1.0)])[20:40]
    table = "symbol,date,close\n" + "".join(f"KO,{day:{written}},{50 + n}\n" for n, day in enumerate(days))
    settings = desk(table=table)
    found = ingest(settings, "files", environment={}, now=NOW)
    assert not found.down, found.down
    closes = stored(settings, "files")["KO"]
    assert closes.index.equals(days.rename("session")) and closes.tolist() == [50.0 + n for n in range(20)]


def test_a_damaged_line_of_a_file_is_listed_with_its_number(desk):
    settings = desk(
        table=LONG + "KO,2022-01-11,50,51,49,fifty,1\nKO,2022-01-32,50,51,49,50,1\nKO,2022-01-12,50,51,49,50.7,1\n"
    )
    found = ingest(settings, "files", environment={}, now=NOW)
    assert not found.down
    assert len(stored(settings, "files").dropna()) == 7
    details = " | ".join(held(settings)["detail"])
    assert "line 8" in details and "line 9" in details


# the database, and the question


def test_a_database_of_a_newer_revision_is_refused_before_anything_is_asked(desk, vendors):
    settings = desk()
    engine = open_database(settings.database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreError) as caught:
        ingest(settings, "alpaca", ("KO",), environment=KEYS, **SPAN)
    one_line(caught.value, "newer version", "9999")
    assert not vendors.requests


@pytest.mark.parametrize(
    "source, symbols, span, told",
    [
        ("bloomberg", ("KO",), SPAN, "no such source"),
        ("alpaca", (), SPAN, "symbols"),
        ("alpaca", ("KO",), SPAN | {"start": "03.01.2022"}, "--start"),
        ("alpaca", ("KO",), SPAN | {"start": "2022-02-01"}, "after end"),
    ],
)
def test_a_question_that_cannot_be_meant_is_one_line(desk, source, symbols, span, told):
    with pytest.raises(MltError) as caught:
        ingest(desk(), source, symbols, environment=KEYS, **span)
    one_line(caught.value, told)
    assert not re.search(r"\d{4}-\d\d-\d\d \d\d:", str(caught.value))
