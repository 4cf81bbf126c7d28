"Sources by name: what each is made of, and what is said when it lacks something."

import logging
from datetime import date
from importlib.util import find_spec

import pytest
from fixture_server import KEY, NEWSAPI_KEY, REDDIT_ID, REDDIT_SECRET, SECRET, serving

from mlt_lib.data.catalog import ENTRIES, catalogue, source_named, source_names
from mlt_lib.data.source import Ask
from mlt_lib.errors import SettingsError, SourceError
from mlt_lib.settings import Settings

JANUARY = Ask(("AAPL",), date(2022, 1, 3), date(2022, 1, 31))
SECRETS = {
    "MLT_BROKER_KEY": KEY, "MLT_BROKER_SECRET": SECRET, "MLT_NEWSAPI_KEY": NEWSAPI_KEY,
    "MLT_REDDIT_ID": REDDIT_ID, "MLT_REDDIT_SECRET": REDDIT_SECRET,
}  # fmt: skip


def desk(tmp_path, text="[data]\nsource = sample\n"):
    (tmp_path / "settings.ini").write_text(text)
    return Settings.read(tmp_path / "settings.ini", {})


@pytest.mark.parametrize("name", source_names())
def test_every_source_keeps_the_promise(tmp_path, name):
    (tmp_path / "p.csv").write_text("date,AAPL\n2022-01-03,182.01\n")
    source = source_named(name, desk(tmp_path, "[data]\nsource = files\npath = p.csv\n"), SECRETS)
    assert source.name.partition(":")[0] == name and source.kind == ENTRIES[name].kind
    assert source.kind in ("bars", "news", "posts") and len(source.note) > 20
    assert source.per_minute is None or source.per_minute > 0
    assert not any(secret in repr(source) for secret in SECRETS.values())
    assert callable(source.pages)


def test_settings_reach_the_sources(tmp_path):
    text = """[sources]
alpaca_feed = sip
alpaca_per_minute = 11
newsapi_query = oil
reddit_subreddits = wallstreetbets
request_timeout_seconds = 7
yahoo_url = http://127.0.0.1:5
"""
    settings = desk(tmp_path, text)
    alpaca = source_named("alpaca", settings, SECRETS)
    assert (alpaca.feed, alpaca.per_minute, alpaca.timeout_seconds, alpaca.url) == ("sip", 11, 7.0, None)
    assert source_named("newsapi", settings, SECRETS).query == "oil"
    assert source_named("reddit", settings, SECRETS).subreddits == ("wallstreetbets",)
    assert source_named("yahoo", settings, SECRETS).url == "http://127.0.0.1:5"


def test_a_misspelt_name_lists_the_names(tmp_path):
    with pytest.raises(SettingsError, match="did you mean alpaca") as caught:
        source_named("Alpacca", desk(tmp_path), SECRETS)
    assert all(name in str(caught.value) for name in source_names())
    with pytest.raises(SettingsError, match="there are sample, files, alpaca"):
        source_named("", desk(tmp_path), SECRETS)


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("alpaca", "MLT_BROKER_KEY"),
        ("alpaca_news", "MLT_BROKER_SECRET"),
        ("newsapi", "MLT_NEWSAPI_KEY"),
        ("reddit", "MLT_REDDIT_SECRET"),
    ],
)
def test_a_missing_key_is_one_line_that_names_the_variable(tmp_path, name, variable):
    environment = {key: value for key, value in SECRETS.items() if key != variable}
    with pytest.raises(SettingsError, match=variable) as caught:
        source_named(name, desk(tmp_path), environment)
    assert "\n" not in str(caught.value) and not any(value in str(caught.value) for value in SECRETS.values())


@pytest.mark.parametrize(("name", "package", "extra"), [("yahoo", "yfinance", "yahoo"), ("reddit", "praw", "reddit")])
def test_a_missing_package_is_one_line_that_names_the_extra(tmp_path, monkeypatch, name, package, extra):
    monkeypatch.setattr("mlt_lib.data.catalog.find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(SettingsError) as caught:
        source_named(name, desk(tmp_path), SECRETS)
    assert f"pip install 'mlt_lib[{extra}]'" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["alpaca", "newsapi", "reddit"])
def test_keys_do_not_travel_unencrypted(tmp_path, name):
    with pytest.raises(SettingsError, match="must be https://"):
        source_named(name, desk(tmp_path, f"[sources]\n{name}_url = http://data.example.com\n"), SECRETS)
    assert source_named(name, desk(tmp_path, f"[sources]\n{name}_url = http://127.0.0.1:8\n"), SECRETS).url


def test_the_catalogue_says_what_is_ready(tmp_path):
    table = catalogue(desk(tmp_path), {})
    assert list(table.index) == list(source_names()) and table["lacks"]["sample"] == table["lacks"]["yahoo"] == ""
    assert "MLT_NEWSAPI_KEY" in table["lacks"]["newsapi"] and "[data] path" in table["lacks"]["files"]


def test_importing_the_catalogue_loads_no_client(run_python):
    heavy = ["alpaca", "praw", "yfinance", "httpx", "curl_cffi", "requests", "pyarrow.flight"]
    said = run_python(f"import sys, mlt_lib.data.catalog; print([m for m in {heavy} if m in sys.modules])")
    assert said == "[]"


def test_every_source_works_from_settings_alone_and_logs_no_secret(tmp_path, caplog):
    "The whole way, once for each vendor: settings, environment, its client, one page."
    caplog.set_level(logging.DEBUG)
    with serving() as vendors:
        urls = "".join(f"{name}_url = {vendors.url}\n" for name in ("alpaca", "yahoo", "newsapi", "reddit"))
        settings = desk(tmp_path, f"[sources]\n{urls}")
        vendors.posts = {"stocks": [], "investing": []}
        for name in source_names("bars")[2:] + source_names("news") + source_names("posts"):
            pages = list(source_named(name, settings, SECRETS).pages(JANUARY))
            assert "AAPL" in {symbol for page in pages for symbol in page.complete}, name
        vendors.fail("401")
        with pytest.raises(SourceError, match="MLT_BROKER_KEY"):
            list(source_named("alpaca", settings, SECRETS).pages(JANUARY))
    assert "/v2/stocks/bars" in caplog.text, "the clients do log their requests"
    assert not any(secret in caplog.text for secret in SECRETS.values())
