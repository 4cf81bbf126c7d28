"NewsAPI through httpx: searches that fit, plans that end, and errors in its own codes."

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest
from fixture_server import FAULTS, NEWSAPI_KEY, patience, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from mlt_lib.data.newsapi import LONGEST_QUERY, NewsApi, read_articles, refused_by_newsapi
from mlt_lib.data.source import Ask
from mlt_lib.errors import DataError, SourceError

NOW = datetime(2022, 2, 10, tzinfo=UTC)
JANUARY = (date(2022, 1, 3), date(2022, 1, 31))


def article(number, moment):
    return {
        "source": {"id": None, "name": "Example"}, "author": None, "title": f"AAPL story {number}", "description": "Words.",
        "url": f"https://example.com/{number}", "urlToImage": None, "publishedAt": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "content": "…",
    }  # fmt: skip


@pytest.fixture(scope="module")
def server():
    with serving() as vendors:
        yield vendors


@pytest.fixture
def vendors(server):
    start = datetime(2022, 1, 4, tzinfo=UTC)
    server.articles = [article(i, start + timedelta(hours=i)) for i in range(250)]
    server.message = "refused by the test"
    server.requests.clear()
    server.faults.clear()
    return server


@pytest.fixture
def newsapi(vendors):
    return NewsApi(SecretStr(NEWSAPI_KEY), vendors.url, timeout_seconds=20, clock=lambda: NOW)


def test_more_than_the_plan_shows_at_once_comes_in_several_questions(newsapi, vendors):
    pages = list(newsapi.pages(Ask(("AAPL",), *JANUARY)))
    texts = pd.concat([page.texts for page in pages]).drop_duplicates("item_id")
    assert len(texts) == 250 and [page.complete for page in pages] == [(), (), ("AAPL",)]
    assert all("page" not in query for query in vendors.asked("/everything"))
    assert vendors.headers[-1]["x-api-key"] == NEWSAPI_KEY and NEWSAPI_KEY not in str(vendors.requests)


def test_a_burst_that_no_question_can_pass_is_not_called_complete(newsapi, vendors):
    vendors.articles = [article(i, datetime(2022, 1, 10, 12, tzinfo=UTC)) for i in range(150)]
    pages = list(newsapi.pages(Ask(("AAPL",), *JANUARY)))
    assert len(pages) == 2 and all(page.complete == () for page in pages)


def test_symbols_share_queries_that_fit(newsapi, vendors):
    symbols = tuple(f"SYM{i:03}" for i in range(120))
    pages = list(newsapi.pages(Ask(symbols, *JANUARY)))
    asked = [query["q"] for query in vendors.asked("/everything")]
    assert max(map(len, asked)) <= LONGEST_QUERY and {s for page in pages for s in page.complete} == set(symbols)
    assert all(any(f'"{symbol}"' in query for query in asked) for symbol in symbols)


def test_a_query_of_ones_own_is_asked_as_it_stands(vendors):
    newsapi = NewsApi(SecretStr(NEWSAPI_KEY), vendors.url, query="oil AND Brent", clock=lambda: NOW)
    list(newsapi.pages(Ask((), *JANUARY)))
    assert {query["q"] for query in vendors.asked("/everything")} == {"oil AND Brent"}
    with pytest.raises(DataError, match="newsapi_query"):
        list(NewsApi(SecretStr("k"), vendors.url, clock=lambda: NOW).pages(Ask((), *JANUARY)))


def test_a_removed_article_is_listed(newsapi, vendors):
    vendors.articles = [
        article(1, datetime(2022, 1, 10, tzinfo=UTC)) | {"title": "[Removed]"},
        article(2, datetime(2022, 1, 11)),
    ]
    (page,) = newsapi.pages(Ask(("AAPL",), *JANUARY))
    assert len(page.texts) == 1 and list(page.damaged["rule"]) == ["unreadable"]


def test_a_wrong_key_is_a_matter_for_a_person(vendors):
    with pytest.raises(SourceError, match="MLT_NEWSAPI_KEY") as caught:
        list(NewsApi(SecretStr("wr0ng"), vendors.url, clock=lambda: NOW).pages(Ask(("AAPL",), *JANUARY)))
    assert not caught.value.again and "wr0ng" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "again"),
    [(429, "rateLimited", True), (429, "apiKeyExhausted", False), (401, "apiKeyDisabled", False), (426, "parameterInvalid", False), (500, "unexpectedError", True)],
)  # fmt: skip
def test_its_codes_say_whether_to_ask_again(status, code, again):
    body = f'{{"status": "error", "code": "{code}", "message": "see {NEWSAPI_KEY}"}}'.encode()
    error = refused_by_newsapi(status, body, {}, NOW, NEWSAPI_KEY)
    assert error.again == again and NEWSAPI_KEY not in str(error)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_failure_is_one_line_that_says_whether_to_ask_again(vendors, fault):
    newsapi = NewsApi(SecretStr(NEWSAPI_KEY), vendors.url, timeout_seconds=patience(fault), clock=lambda: NOW)
    vendors.message = f"no, {NEWSAPI_KEY}"
    vendors.fail(fault)
    with pytest.raises(SourceError, match="^newsapi: ") as caught:
        list(newsapi.pages(Ask(("AAPL",), *JANUARY)))
    assert "\n" not in str(caught.value) and NEWSAPI_KEY not in str(caught.value)
    assert caught.value.again == (fault not in ("401", "403", "404", "422", "302"))


def test_nobody_listens():
    with pytest.raises(SourceError, match="can't be reached") as caught:
        list(NewsApi(SecretStr("k3y"), "http://127.0.0.1:9", clock=lambda: NOW).pages(Ask(("AAPL",), *JANUARY)))
    assert caught.value.again


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=6), inside, max_size=3),
    max_leaves=8,
)
names = ("title", "description", "content", "url", "author", "publishedAt")
rows = st.fixed_dictionaries(
    {name: st.just("2022-01-05T14:00:00Z") | st.text(max_size=12) | json_values for name in names}
)


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({"articles": st.lists(rows | json_values, max_size=4) | json_values}) | json_values)
def test_whatever_comes_is_texts_damage_or_one_error(payload):
    try:
        page = read_articles(payload, ("AAPL",), NOW)
    except SourceError:
        return
    assert len(page.texts) + len(page.damaged) == len(payload["articles"])
    assert page.texts[["item_id", "published", "updated", "title", "raw"]].notna().all().all()
