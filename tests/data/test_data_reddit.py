"Reddit's posts through praw: logins, listings that end early, and a client without patience of its own."

import time
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest
from fixture_server import FAULTS, REDDIT_ID, REDDIT_SECRET, patience, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from mlt_lib.data.reddit import RedditPosts, read_listing
from mlt_lib.data.source import Ask
from mlt_lib.errors import SourceError

pytest.importorskip("praw")
NOW = datetime(2022, 2, 10, tzinfo=UTC)
JANUARY = (date(2022, 1, 10), date(2022, 1, 31))


def post(number, moment, **changes):
    return {
        "id": f"{number:x}", "name": f"t3_{number:x}", "title": f"On $KO, {number}", "selftext": "", "author": "someone",
        "created_utc": moment.timestamp(), "edited": False, "permalink": f"/r/stocks/comments/{number:x}/",
    } | changes  # fmt: skip


def posts(count, newest=datetime(2022, 2, 9, tzinfo=UTC), step=timedelta(hours=3)):
    return [post(i + 1, newest - i * step) for i in range(count)]


@pytest.fixture(scope="module")
def server():
    with serving() as vendors:
        yield vendors


@pytest.fixture
def vendors(server):
    server.posts = {"stocks": posts(400)}
    server.page, server.token_answer, server.message = 100, None, "refused by the test"
    server.requests.clear()
    server.faults.clear()
    return server


def source(vendors, *forums, seconds=20.0):
    secrets = SecretStr(REDDIT_ID), SecretStr(REDDIT_SECRET)
    return RedditPosts(*secrets, vendors.url, forums or ("stocks",), timeout_seconds=seconds, clock=lambda: NOW)


def test_posts_come_newest_first_until_the_span_is_passed(vendors):
    pages = list(source(vendors).pages(Ask(("KO",), *JANUARY)))
    texts = pd.concat([page.texts for page in pages])
    inside = texts["published"].between("2022-01-10T05:00Z", "2022-02-01T04:59:59Z")
    assert inside.all() and texts["item_id"].is_unique and len(texts) == 22 * 8
    assert pages[-1].complete == ("KO",) and not any(page.complete for page in pages[:-1])
    assert len(vendors.asked("/new")) == 3 == len(pages), "the fourth hundred lies before the span"


def test_a_listing_that_ends_before_the_span_is_not_called_complete(vendors):
    vendors.posts = {"stocks": posts(2000, step=timedelta(minutes=10))}  # a thousand reach back a week
    pages = list(source(vendors).pages(Ask(("KO",), *JANUARY)))
    assert len(pages) == 10 and all(page.complete == () for page in pages)
    vendors.posts = {"stocks": posts(30, step=timedelta(hours=1))}  # a young forum, listed wholly
    assert list(source(vendors).pages(Ask(("KO",), *JANUARY)))[-1].complete == ("KO",)


def test_a_forum_that_is_closed_or_misspelt_is_named_and_left_out(vendors):
    vendors.posts["investing"] = posts(400)
    pages = list(source(vendors, "closed", "stocks", "n o", "nosuch", "investing").pages(Ask(("KO",), *JANUARY)))
    assert [page.unknown for page in pages if page.unknown] == [("r/closed",), ("r/n o",), ("r/nosuch",)]
    assert pages[-1].complete == ("KO",) and sum(len(page.texts) for page in pages) == 2 * 22 * 8


def test_only_posts_that_speak_of_the_symbols_answer(vendors):
    vendors.posts["stocks"][120] |= {"title": "All about $PEP", "edited": (NOW - timedelta(days=1)).timestamp()}
    pages = list(source(vendors).pages(Ask(("PEP",), *JANUARY)))
    (text,) = [row for page in pages for row in page.texts.itertuples()]
    assert text.symbols == ("PEP",) and text.updated - text.published > pd.Timedelta(days=10)
    everything = pd.concat([page.texts for page in source(vendors).pages(Ask((), *JANUARY))])
    assert len(everything) == 22 * 8 and set(everything["symbols"]) == {()}


def test_the_client_neither_sleeps_nor_retries(vendors):
    began = time.monotonic()
    list(source(vendors).pages(Ask(("KO",), *JANUARY)))
    assert time.monotonic() - began < 60, "the server's allowance is used up in every answer"
    vendors.requests.clear()
    vendors.fail("503", on="/new")
    with pytest.raises(SourceError) as caught:
        list(source(vendors).pages(Ask(("KO",), *JANUARY)))
    assert caught.value.again and len(vendors.asked("/new")) == 1


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("302", "403", "404")])
def test_every_failure_is_one_line_that_says_whether_to_ask_again(vendors, fault):
    vendors.message = f"no, {REDDIT_SECRET}"
    vendors.fail(fault, on="/new")
    with pytest.raises(SourceError, match="^reddit: ") as caught:
        list(source(vendors, seconds=patience(fault)).pages(Ask(("KO",), *JANUARY)))
    assert "\n" not in str(caught.value) and REDDIT_SECRET not in str(caught.value)
    assert caught.value.again == (fault not in ("401", "422"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_login_is_one_line(vendors, fault):
    vendors.fail(fault, on="*")
    with pytest.raises(SourceError, match="^reddit: ") as caught:
        list(source(vendors, seconds=patience(fault)).pages(Ask(("KO",), *JANUARY)))
    assert "\n" not in str(caught.value) and vendors.asked("/new") == []


def test_a_wrong_secret_names_the_variables(vendors):
    wrong = RedditPosts(SecretStr(REDDIT_ID), SecretStr("wr0ng"), vendors.url, ("stocks",), clock=lambda: NOW)
    with pytest.raises(SourceError, match="MLT_REDDIT_ID and MLT_REDDIT_SECRET") as caught:
        list(wrong.pages(Ask(("KO",), *JANUARY)))
    assert not caught.value.again and "wr0ng" not in str(caught.value) + repr(wrong)


@pytest.mark.parametrize(
    "answer",
    [
        {"error": "invalid_grant"},
        {"expires_in": 3},
        {"access_token": 3},
        [1],
        {},
        {"access_token": "x", "expires_in": "soon", "scope": "*"},
    ],
)
def test_an_odd_answer_to_the_login_is_one_line(vendors, answer):
    vendors.token_answer = answer
    with pytest.raises(SourceError, match="^reddit: "):
        list(source(vendors).pages(Ask(("KO",), *JANUARY)))


def test_no_configuration_file_sends_the_secret_elsewhere(vendors, tmp_path, monkeypatch):
    (tmp_path / "praw.ini").write_text(
        "[DEFAULT]\noauth_url=http://127.0.0.1:9\nreddit_url=http://127.0.0.1:9\nusername=u\npassword=p\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("praw.config.Config.CONFIG", None)
    monkeypatch.setenv("PRAW_ALLOW_ENDPOINT_OVERRIDE", "1")
    assert list(source(vendors).pages(Ask(("KO",), *JANUARY)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=6), inside, max_size=3),
    max_leaves=8,
)
names = ("name", "title", "selftext", "created_utc", "edited", "author", "permalink")
fields = st.fixed_dictionaries(
    {name: st.sampled_from([1641236400.0, False, "t3_a"]) | st.text(max_size=12) | json_values for name in names}
)
children = st.lists(
    st.fixed_dictionaries({"kind": st.just("t3"), "data": fields | json_values}) | json_values, max_size=4
)
listings = st.fixed_dictionaries(
    {
        "kind": st.just("Listing"),
        "data": st.fixed_dictionaries(
            {"children": children | json_values, "after": st.none() | st.just("t3_a") | json_values}
        ),
    }
)


@settings(max_examples=60, deadline=None)
@given(listings | json_values)
def test_whatever_comes_is_texts_damage_or_one_error(payload):
    try:
        page, after, _ = read_listing(payload, (), NOW)
    except SourceError:
        return
    assert len(page.texts) + len(page.damaged) == len(payload["data"]["children"])
    assert page.texts[["item_id", "published", "updated", "title", "raw"]].notna().all().all()
    assert after is None or isinstance(after, str)
