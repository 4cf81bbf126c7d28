"Good answers with a few things wrong anywhere inside: a page, or one error that a person can read."

import copy
import json
import random
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from mlt_lib.data.alpaca_answers import read_actions, read_bars
from mlt_lib.data.alpaca_news import read_news
from mlt_lib.data.answers import combined
from mlt_lib.data.newsapi import read_articles
from mlt_lib.data.reddit import read_listing
from mlt_lib.data.source import BAR_COLUMNS, BarPage
from mlt_lib.data.yahoo_answers import read_chart
from mlt_lib.errors import SourceError

NOW, FIRST, LAST = datetime(2022, 2, 10, tzinfo=UTC), pd.Timestamp("2022-01-01"), pd.Timestamp("2022-02-09")
SYMBOLS = ("AAPL", "KO")
BAR = {"t": "2022-01-03T05:00:00Z", "o": 1.5, "h": 2.5, "l": 1.0, "c": 2.25, "v": 1000}
BARS = {"bars": {"AAPL": [BAR] * 3, "KO": [BAR | {"v": None}]}, "next_page_token": None}
ACTIONS = {
    "corporate_actions": {
        "forward_splits": [{"id": "1", "symbol": "AAPL", "new_rate": 4, "old_rate": 1, "ex_date": "2022-01-10"}],
        "cash_dividends": [{"id": "2", "symbol": "AAPL", "rate": 0.5, "ex_date": "2022-01-11"}] * 2,
        "cash_mergers": [
            {"acquirer_symbol": "AAPL", "acquiree_symbol": "X", "rate": 1, "effective_date": "2022-01-12"}
        ],
    }
}
STAMPS, PRICES = [1641220200, 1641306600, 1641393000], [1.0, 2.0, 3.0]
CHART = {
    "chart": {
        "error": None,
        "result": [
            {
                "meta": {"symbol": "AAPL", "currency": "USD", "exchangeTimezoneName": "America/New_York"},
                "timestamp": STAMPS,
                "events": {
                    "splits": {"1": {"date": STAMPS[1], "numerator": 4, "denominator": 1}},
                    "dividends": {"1": {"date": STAMPS[2], "amount": 0.5}},
                    "capitalGains": {"1": {"date": STAMPS[2], "amount": 0.5}},
                },
                "indicators": {
                    "quote": [{name: PRICES for name in ("open", "high", "low", "close", "volume")}],
                    "adjclose": [{"adjclose": PRICES}],
                },
            }
        ],
    }
}
STORY = {
    "id": 5, "headline": "h", "author": "a", "created_at": "2022-01-05T14:00:00Z", "updated_at": "2022-01-05T15:00:00Z",
    "summary": "s", "content": "<p>x</p>", "url": "u", "symbols": ["AAPL"],
}  # fmt: skip
ARTICLE = {
    "title": "t",
    "description": "d",
    "url": "http://x",
    "publishedAt": "2022-01-05T14:00:00Z",
    "content": "c",
    "author": None,
}
POST = {
    "name": "t3_a",
    "title": "t",
    "selftext": "$AAPL",
    "created_utc": 1641220200.0,
    "edited": False,
    "author": "a",
    "permalink": "/r/x",
}
LISTING = {"kind": "Listing", "data": {"after": "t3_a", "children": [{"kind": "t3", "data": POST}] * 2}}
JUNK = [
    None, True, False, 0, -1, 1e308, -1e308, float("nan"), float("inf"), 10**400, 1e-320, -0.0, 1641220200, "", "x" * 300, "\ud800", "\0",
    "NaN", "2022-01-05T14:00:00Z", "USD", "GBp", "AAPL", "Asia/Kathmandu", "../../etc/passwd", "<" * 50, [], {}, [[]], {"a": 1},
]  # fmt: skip


def places(answer, path=()):
    "The path to every node of an answer."
    inside = answer.items() if isinstance(answer, dict) else enumerate(answer) if isinstance(answer, list) else ()
    return [path, *(place for name, node in inside for place in places(node, (*path, name)))]


def mutated(answer, dice):
    "The answer with one to four nodes dropped, doubled, moved or replaced."
    answer = copy.deepcopy(answer)
    for _ in range(dice.randint(1, 4)):
        *way, name = dice.choice(places(answer)[1:] or [(None,)])
        parent = answer
        for step in way:
            parent = parent[step]
        chance = dice.random()
        if not isinstance(parent, dict | list) or not parent:
            continue
        if chance < 0.15:
            del parent[name]
        elif chance < 0.3 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[name]))
        elif chance < 0.3:
            parent[dice.choice(["x", "symbol", "date", "t", "c"])] = copy.deepcopy(parent[name])
        else:
            parent[name] = copy.deepcopy(dice.choice(JUNK))
    return answer


def check_bars(page):
    assert page.bars[["symbol", "session", "close"]].notna().all().all()
    assert not np.isinf(page.bars[list(BAR_COLUMNS[2:])].to_numpy(float)).any()
    assert (page.actions["value"] > 0).all() and np.isfinite(page.actions["value"]).all()
    assert page.damaged[["session", "symbol", "rule"]].notna().all().all() and all(
        map(str.isprintable, page.damaged["detail"])
    )


def check_texts(page):
    assert page.texts[["item_id", "published", "updated", "title", "raw"]].notna().all().all()
    assert page.damaged[["session", "symbol", "rule"]].notna().all().all()
    for text in page.texts[["item_id", "title", "body", "author", "url", "raw"]].stack().dropna():
        assert "\0" not in text and text.encode("utf-8").decode("utf-8") == text
    assert all(isinstance(symbols, tuple) and json.dumps(symbols) for symbols in page.texts["symbols"])


def actions_of(answer):
    found, wrong = read_actions(answer, SYMBOLS, LAST)
    return BarPage(actions=combined(found.values()), damaged=wrong)


@pytest.mark.parametrize(
    ("answer", "read", "check"),
    [
        (BARS, lambda answer: read_bars(answer, SYMBOLS, LAST), check_bars),
        (ACTIONS, actions_of, check_bars),
        (CHART, lambda answer: read_chart(answer, "AAPL", FIRST, LAST, LAST), check_bars),
        ({"news": [STORY] * 2}, lambda answer: read_news(answer, NOW), check_texts),
        ({"articles": [ARTICLE] * 2}, lambda answer: read_articles(answer, SYMBOLS, NOW), check_texts),
        (LISTING, lambda answer: read_listing(answer, (), NOW)[0], check_texts),
    ],
    ids=["alpaca bars", "alpaca actions", "yahoo", "alpaca news", "newsapi", "reddit"],
)
def test_a_few_things_wrong_anywhere_are_a_page_or_one_error(answer, read, check):
    check(read(answer))
    dice = random.Random(17)
    for _ in range(40):
        try:
            check(read(mutated(answer, dice)))
        except SourceError as error:
            assert str(error).isprintable() and len(str(error)) < 300
