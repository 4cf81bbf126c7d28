"Bringing data in: which sources, which days, what is missing; and the desk on bars that came through the store."

import datetime as dt
import socket
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from mlt_lib.data.sample import closes
from mlt_lib.errors import DataError, SettingsError
from mlt_lib.jobs.day import bring_in, daily, look
from mlt_lib.jobs.gather import ask_for, ingest, sources_wanted
from mlt_lib.jobs.prices import desk_view, expected_session, in_order, require_stored, stored_view, through_store
from mlt_lib.jobs.session import known_prices
from mlt_lib.settings import Settings
from mlt_lib.store.bars import read_actions, read_bars, read_closes, withdraw_bars
from mlt_lib.store.database import open_database
from mlt_lib.store.fetches import mark_fetched, open_failures
from mlt_lib.store.restatements import write_actions, write_bars

NOW = dt.datetime(2022, 12, 28, 23, tzinfo=dt.UTC)
NAMES = ["AAPL", "GE", "JNJ", "KO", "MSFT", "PEP", "WMT", "XOM"]
SPLITS = {("AAPL", "2020-08-31"): 4.0, ("GE", "2021-08-02"): 0.125}


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    "The sample taken apart: raw bars with two splits and quarterly dividends whose total-return units are the sample again."
    units, rows = closes().loc["2020-01-02":, NAMES], []
    for symbol in units:
        path, price = units[symbol].to_numpy(), units[symbol].iloc[0]
        for n, day in enumerate(units.index):
            split = SPLITS.get((symbol, f"{day:%Y-%m-%d}"), 1.0)
            dividend = round(0.006 * price, 2) if n % 63 == 40 else 0.0
            price = (path[n] / path[n - 1] * price - dividend) / split if n else price
            rows.append((symbol, day, price * 0.99, price * 1.03, price * 0.97, price, 1e6 + 1000 * n, dividend, split))
    return pd.DataFrame(rows, columns=["ticker", "date", "open", "high", "low", "close", "volume", "dividend", "split"])


def desk(tmp_path, text, environment=None) -> Settings:
    (tmp_path / "settings.ini").write_text(text)
    return Settings.read(tmp_path / "settings.ini", environment or {})


def test_sources_are_those_of_the_settings_or_those_named(tmp_path):
    settings = desk(tmp_path, "[sources]\ntexts = newsapi, reddit\n")
    assert sources_wanted(settings) == ("sample", "newsapi", "reddit")
    assert sources_wanted(settings, "yahoo, alpaca,yahoo") == ("yahoo", "alpaca")
    with pytest.raises(SettingsError, match="--source 'yaho': there is no such source; did you mean yahoo"):
        sources_wanted(settings, "yaho")


def test_the_span_ends_with_the_last_session_that_is_over(tmp_path):
    class Vendor:
        name, kind = "vendor", "bars"

    settings = desk(tmp_path, "[universe]\nsymbols = KO\n")
    assert ask_for(settings, Vendor(), now=NOW).end == dt.date(2022, 12, 28)
    early = NOW.replace(hour=15)
    assert ask_for(settings, Vendor(), end="2022-12-28", now=early).end == dt.date(2022, 12, 27)
    assert ask_for(settings, Vendor(), ["XOM", "XOM"], "2022-01-03", now=NOW).symbols == ("XOM",)
    assert ask_for(settings, Vendor(), now=NOW).start == dt.date(2022, 12, 28) - dt.timedelta(days=3653)


@pytest.mark.parametrize(
    ("source", "more", "words"),
    [
        ("yahoo", {}, r"yahoo: has no list of all symbols; name some in \[universe\] symbols, or with --symbols"),
        ("sample", {"start": "1.2.2020"}, "--start '1.2.2020' is not a date"),
        ("sample", {"start": "2022-02-01", "end": "2022-01-01"}, "start 2022-02-01 lies after end 2022-01-01"),
        ("alpaca", {"symbols": ["KO"], "environment": {}}, "MLT_BROKER_KEY"),
        ("files", {}, r"\[data\] path is empty"),
    ],
)
def test_what_cannot_be_asked_is_one_line(tmp_path, source, more, words):
    with pytest.raises((SettingsError, DataError), match=words) as caught:
        ingest(desk(tmp_path, ""), source, **more)
    assert "\n" not in str(caught.value)


def test_a_source_without_its_key_does_not_stop_the_others(tmp_path):
    settings = desk(tmp_path, "[universe]\nsymbols = KO\n[sources]\ntexts = newsapi\n")
    got = ingest(settings, start="2022-12-01", environment={})
    assert [o.source for o in got.outcomes] == ["sample", "newsapi"] and got.outcomes[0].kept.new == 19
    assert "MLT_NEWSAPI_KEY" in got.down[0].error


def test_a_long_file_reaches_the_store_and_the_desk_sees_its_units(tmp_path, raw):
    raw.to_csv(tmp_path / "mine.csv", index=False)
    settings = desk(tmp_path, "[data]\nsource = files\npath = mine.csv\n")
    assert through_store(settings) and expected_session(settings) == raw["date"].max()
    got = ingest(settings)
    assert got.outcomes[0].error == "" and ingest(settings).outcomes[0].kept.rows == 0
    engine = open_database(settings.database_url)
    actions, units = read_actions(engine, "files:mine.csv"), stored_view(engine, settings)
    assert len(actions) == (raw["dividend"] > 0).sum() + len(SPLITS)
    kept = units.notna() & units.shift().notna()
    sample = closes().loc[units.index, units.columns]
    np.testing.assert_allclose(units.where(kept), sample.where(kept), rtol=1e-9)
    day = pd.Timestamp("2021-09-30")
    seen = known_prices(engine, settings, day, rows=100)
    pd.testing.assert_frame_equal(seen.dropna(), units.loc[:day].ffill(limit=5).iloc[-100:].dropna(), check_freq=False)
    engine.dispose()


def stored_desk(tmp_path, raw, text="", source="yahoo"):
    "A desk whose bars were fetched yesterday and before."
    settings = desk(tmp_path, f"[data]\nsource = {source}\n[universe]\nsymbols = {', '.join(NAMES)}\n{text}")
    engine = open_database(settings.database_url)
    bars = raw.rename(columns={"ticker": "symbol", "date": "session"})
    told = [
        bars.loc[bars[kind] != none, ["symbol", "session"]].assign(kind=kind, value=bars[kind])
        for kind, none in (("split", 1.0), ("dividend", 0.0))
    ]
    write_bars(engine, bars, source)
    write_actions(engine, pd.concat(told), source)
    mark_fetched(engine, source, "bars", NAMES, dt.date(2020, 1, 2), dt.date(2022, 12, 28))
    return settings, engine


def test_a_broker_sees_the_price_as_traded_and_the_same_returns(tmp_path, raw):
    settings, engine = stored_desk(tmp_path, raw)
    units = stored_view(engine, settings)
    live = settings.model_copy(update={"execution": settings.execution.model_copy(update={"broker": "paper"})})
    before = dt.datetime(2020, 8, 28, 22, tzinfo=dt.UTC)  # the split of the next session isn't known yet
    traded = read_bars(engine, "yahoo")["close"]
    for as_of in (None, before):
        prices = stored_view(engine, live, as_of=as_of)
        pd.testing.assert_series_equal(prices.iloc[-1], traded.loc[prices.index[-1]], rtol=1e-12)
        np.testing.assert_allclose(prices.pct_change().iloc[1:], units.pct_change().loc[prices.index[1:]], atol=1e-12)
    engine.dispose()


def test_a_later_action_changes_no_earlier_unit(tmp_path, raw):
    settings, engine = stored_desk(tmp_path, raw)
    early = stored_view(engine, settings, as_of=dt.datetime(2021, 6, 30, 22, tzinfo=dt.UTC))
    pd.testing.assert_frame_equal(early, stored_view(engine, settings).loc[: early.index[-1]], check_freq=False)
    engine.dispose()


def test_a_file_is_read_again_only_when_it_or_the_store_has_changed(tmp_path, raw):
    raw.to_csv(tmp_path / "mine.csv", index=False)
    settings = desk(tmp_path, "[data]\nsource = files\npath = mine.csv\n")
    pages = lambda **more: ingest(settings, **more).outcomes[0].pages  # noqa: E731
    first, second = (ingest(settings).outcomes[0] for _ in range(2))
    assert (first.pages, second.pages, second.kept.rows) == (1, 0, 0)
    assert second.kept.unchanged == first.kept.new and second.note == first.note
    assert expected_session(settings) == raw["date"].max()
    assert pages(again=True) == 1 and pages(symbols=["KO"]) == 1 and pages() == 1 and pages() == 0
    engine = open_database(settings.database_url)
    lost = pd.DataFrame({"symbol": ["KO"], "session": [raw["date"].iloc[5]]})
    assert withdraw_bars(engine, "files:mine.csv", lost).withdrawn == 1
    assert ingest(settings).outcomes[0].kept.restated == 1, "what the store lost comes back"
    raw.iloc[:-1].to_csv(tmp_path / "mine.csv", index=False)
    assert pages() == 1 and pages() == 0
    next((tmp_path / ".mlt" / "files").iterdir()).write_text("{")
    assert pages() == 1
    engine.dispose()


def as_read(engine, settings, as_of):
    "The view from the store as of a moment, without what is kept in memory."
    chosen, key = settings.universe.symbols or None, settings.source_key
    raw = read_closes(engine, key, chosen, as_of=as_of)
    return desk_view(raw, read_actions(engine, key, chosen, as_of=as_of), settings.execution.broker)


@pytest.mark.parametrize("broker", ["simulated", "paper"])
def test_what_is_kept_in_memory_is_what_the_store_says_to_the_bit(tmp_path, raw, broker):
    settings, engine = stored_desk(tmp_path, raw)
    settings = settings.model_copy(update={"execution": settings.execution.model_copy(update={"broker": broker})})
    moments = [dt.datetime(2020, 8, 28, 22, tzinfo=dt.UTC), dt.datetime(2021, 9, 30, 22, tzinfo=dt.UTC)]
    moments += [dt.datetime(2021, 9, 30, 12, tzinfo=dt.UTC), dt.datetime(2021, 10, 3, 12, tzinfo=dt.UTC)]

    def agree() -> None:
        for as_of in moments:
            seen, told = stored_view(engine, settings, as_of=as_of), as_read(engine, settings, as_of)
            pd.testing.assert_frame_equal(seen, told, check_exact=True, check_freq=False)

    agree()
    bars = raw.rename(columns={"ticker": "symbol", "date": "session"})
    row = bars[bars["session"] == "2021-09-30"].iloc[[0]]
    write_bars(engine, row.assign(**{f: row[f] * 1.5 for f in ("open", "high", "low", "close")}), "yahoo")
    agree()  # a correction is seen at once
    late = bars[bars["session"] == "2020-08-27"].assign(symbol="LATE")
    write_bars(engine, late.iloc[[0]], "yahoo", dt.timedelta(days=90))
    assert not in_order(engine, "yahoo", moments[0]) and in_order(engine, "yahoo", moments[1])
    agree()  # rows that became known out of turn


def test_closes_without_actions_are_what_they_are():
    prices = closes().iloc[:5]
    assert desk_view(prices, pd.DataFrame()) is prices


def test_too_little_in_the_store_stops_with_the_worst_names():
    prices = closes().loc["2022-11-01":, NAMES].copy()
    assert len(require_stored(prices, 0.98)) == len(prices)
    gone = prices.copy()
    gone.loc["2022-11-03":, "KO"] = np.nan  # delisted, not missing
    assert len(require_stored(gone, 0.98)) == len(prices)
    prices.iloc[5:30, 3] = np.nan
    with pytest.raises(DataError, match="of those due are usable.*worst: KO"):
        require_stored(prices, 0.98)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


SHORT = "[sources]\nattempts = 1\nyahoo_url = http://127.0.0.1:{port}\nrequest_timeout_seconds = 2\nhistory_start = 2020-01-02\n"
BOOK = "[strategy]\ncovariance_days = 60\n[portfolio]\nmax_weight_share = 0.2\n"


@pytest.mark.process
@pytest.mark.timeout(600)
def test_a_desk_whose_source_is_down_says_so_and_goes_on_only_with_a_stored_session(tmp_path, raw):
    settings, engine = stored_desk(tmp_path, raw, SHORT.format(port=closed_port()) + BOOK)
    with pytest.raises(
        DataError, match=r"yahoo: .*are not stored, the last are of 2022-12-28.*mlt daily --session"
    ) as caught:
        daily(settings)
    assert "\n" not in str(caught.value) and open_failures(engine)["source"].tolist() == ["yahoo"]
    ended = daily(settings, "2022-12-28")
    assert "equity" in ended.sentence
    assert "Down since" in ended.page.read_text()
    assert "yahoo:" in (tmp_path / "reports/ingest/2022-12-28.html").read_text()
    view = known_prices(engine, settings, pd.Timestamp("2022-12-28"))
    with engine.connect() as connection:
        held = connection.exec_driver_sql("SELECT symbol, price FROM positions WHERE session = '2022-12-28'").all()
    assert held and all(abs(Decimal(price) - Decimal(view[name].iloc[-1])) < Decimal("0.01") for name, price in held)
    engine.dispose()


def test_looking_writes_nothing_and_a_table_of_closes_needs_no_fetch(tmp_path):
    settings = desk(tmp_path, "[universe]\nfirst_session = 2019-01-02\n")
    assert bring_in(settings, "", "demo", lambda *_: None) is None
    assert look(settings).session == pd.Timestamp("2022-12-28") and not (tmp_path / ".mlt").exists()
