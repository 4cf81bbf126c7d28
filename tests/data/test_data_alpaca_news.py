"Alpaca's news through alpaca-py, and the reading of texts that all vendors share."

from datetime import UTC, date, datetime

import pandas as pd
import pytest
from fixture_server import FAULTS, KEY, SECRET, patience, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from mlt_lib.data.alpaca_news import AlpacaNews, read_news
from mlt_lib.data.answers import raw_json
from mlt_lib.data.source import TEXT_COLUMNS, Ask, no_texts
from mlt_lib.data.text_answers import mentioned, plain_text
from mlt_lib.errors import SourceError

NOW = datetime(2022, 2, 10, tzinfo=UTC)
JANUARY = (date(2022, 1, 3), date(2022, 1, 31))


def story(number, created="2022-01-05T14:00:00Z", updated=None, symbols=("AAPL",)):
    return {
        "id": number, "headline": f"Story {number}", "author": "A Writer", "created_at": created,
        "updated_at": updated or created, "summary": "In short.", "content": f"<p>Story <b>{number}</b> &amp; more</p>",
        "url": f"https://example.com/{number}", "images": [], "symbols": list(symbols), "source": "benzinga",
    }  # fmt: skip


@pytest.fixture(scope="module")
def server():
    with serving() as vendors:
        yield vendors


@pytest.fixture
def vendors(server):
    server.news = [story(i + 1, f"2022-01-{4 + i // 10:02}T14:{i % 60:02}:00Z") for i in range(120)]
    server.page = 10_000
    server.requests.clear()
    server.faults.clear()
    return server


@pytest.fixture
def news(vendors):
    return AlpacaNews(SecretStr(KEY), SecretStr(SECRET), vendors.url, timeout_seconds=20, clock=lambda: NOW)


def test_stories_come_page_by_page_and_once(news, vendors):
    pages = list(news.pages(Ask(("AAPL", "KO"), *JANUARY)))
    assert [len(page.texts) for page in pages] == [50, 50, 20]
    assert [page.complete for page in pages] == [(), (), ("AAPL", "KO")]
    texts = pd.concat([page.texts for page in pages])
    assert list(texts.columns) == list(TEXT_COLUMNS) and texts["item_id"].is_unique
    assert texts.dtypes.to_dict() == no_texts().dtypes.to_dict()
    first = texts.iloc[0]
    assert (first["title"], first["body"], first["symbols"]) == ("Story 1", "Story 1 & more", ("AAPL",))
    assert raw_json(vendors.news[0]) == first["raw"]


def test_a_story_that_was_rewritten_counts_from_then(news, vendors):
    vendors.news = [story(1, "2022-01-05T14:00:00Z", "2022-01-07T09:30:00Z")]
    (page,) = news.pages(Ask(("AAPL",), *JANUARY))
    assert page.texts["updated"][0] == pd.Timestamp("2022-01-07T09:30Z") > page.texts["published"][0]


def test_days_are_new_yorks_and_an_open_day_is_not_complete(news, vendors):
    list(news.pages(Ask((), date(2022, 7, 1), date(2022, 7, 1))))
    assert vendors.requests == [], "the future is not asked for"
    (page, *_) = news.pages(Ask(("KO",), date(2022, 2, 9), date(2022, 2, 10)))
    assert vendors.asked("/news")[0] | {} == {
        "start": "2022-02-09T05:00:00Z", "end": "2022-02-10T00:00:00Z", "sort": "asc", "limit": "50",
        "include_content": "true", "symbols": "KO",
    }  # fmt: skip
    assert page.complete == ()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"created_at": None}, "undated"),
        ({"updated_at": "yesterday"}, "undated"),
        ({"updated_at": "2022-01-06T00:00:00"}, "undated"),
        ({"headline": "  "}, "unreadable"),
        ({"headline": None}, "unreadable"),
        ({"id": None}, "unreadable"),
        ({"created_at": "2022-01-04T14:05:00Z", "updated_at": "2022-01-31T00:00:00Z"}, None),
    ],
)
def test_a_damaged_story_is_listed_and_the_rest_goes_on(change, rule):
    page = read_news({"news": [story(1) | change, story(2)]}, NOW)
    assert len(page.texts) == (1 if rule else 2) and list(page.damaged["rule"]) == ([rule] if rule else [])
    ahead = read_news({"news": [story(3, "2022-02-10T00:10:00Z"), story(4, "2022-02-10T00:04:00Z")]}, NOW)
    assert list(ahead.texts["item_id"]) == ["4"] and list(ahead.damaged["rule"]) == ["clock"]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_failure_is_one_line_that_says_whether_to_ask_again(vendors, fault):
    news = AlpacaNews(
        SecretStr(KEY), SecretStr(SECRET), vendors.url, timeout_seconds=patience(fault), clock=lambda: NOW
    )
    vendors.message = f"no, {KEY}"
    vendors.fail(fault)
    with pytest.raises(SourceError, match="^alpaca_news: ") as caught:
        list(news.pages(Ask(("AAPL",), *JANUARY)))
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)
    assert caught.value.again == (fault not in ("401", "403", "404", "422", "302"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=6), inside, max_size=3),
    max_leaves=8,
)
times = st.sampled_from(["2022-01-05T14:00:00Z", "2022-01-05T14:00:00+99:00", "9999-12-31T23:59:59Z"]) | json_values
rows = st.fixed_dictionaries(
    {"id": st.integers() | json_values, "headline": st.text(max_size=12) | json_values, "created_at": times, "updated_at": times},
    optional={"content": st.text(max_size=20) | json_values, "symbols": st.lists(st.text(max_size=6)) | json_values, "author": json_values, "url": json_values},
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.fixed_dictionaries({"news": st.lists(rows | json_values, max_size=4) | json_values}) | json_values)
def test_whatever_comes_is_texts_damage_or_one_error(payload):
    try:
        page = read_news(payload, NOW)
    except SourceError:
        return
    assert len(page.texts) + len(page.damaged) == len(payload["news"] or [])
    assert page.texts[["item_id", "published", "updated", "title", "raw"]].notna().all().all()
    assert (page.texts["updated"] >= page.texts["published"]).all()
    for column in ("item_id", "title", "body", "author", "url", "raw"):
        for text in page.texts[column].dropna():
            assert "\0" not in text and text.encode("utf-8").decode("utf-8") == text, "PostgreSQL takes it"


def test_a_deeply_nested_or_endless_item_is_kept_as_far_as_it_can_be():
    deep: list = []
    for _ in range(3000):
        deep = [deep]
    page = read_news({"news": [story(1) | {"images": deep}, deep, story(2) | {"images": 10**5000}]}, NOW)
    assert len(page.texts) == 2 and len(page.damaged) == 1


def test_markup_of_any_size_is_read_in_a_moment():
    assert plain_text("<script" * 14_000) == ("<script" * 14_000)[:100_000]
    assert plain_text("a<b>c</b><") == "a c <" and plain_text(7) is None


@settings(max_examples=60, deadline=None)
@given(st.text(), st.lists(st.text(max_size=6)))
def test_only_symbols_that_were_asked_for_are_mentioned(text, symbols):
    assert set(mentioned(text, symbols)) <= set(symbols)


def test_short_tickers_need_their_dollar_sign():
    assert mentioned("ALL IN ON KO", ("ALL", "KO", "ON")) == ()
    assert mentioned("$KO and BRK.B. And $t?", ("KO", "BRK.B", "T", "AND")) == ("KO", "BRK.B", "T")
