"""What a parser must stand: any bytes, and documented answers with something wrong in them.

Each target takes bytes, turns them into input for one parser, and fails when the parser raises anything but an error of
the desk's, or lets a NaN or an infinity through to a table. `fuzz.py` lets atheris choose the bytes; the tests of data
let hypothesis choose them, for a moment.
"""

import copy
import json
import math
import tempfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlt_lib.data.bars import validate_bars
from mlt_lib.data.files import REFUSED
from mlt_lib.data.source import ACTION_COLUMNS, BAR_COLUMNS, TEXT_COLUMNS, BarPage, TextPage
from mlt_lib.errors import MltError

NEWEST = pd.Timestamp("2022-12-28")
NAMES = ("AAPL", "BRK.B")


# bytes as choices


class Dice:
    "A stream of small choices; when the bytes are over it always gives 0."

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def throw(self, sides: int) -> int:
        "A number from 0 to sides - 1."
        if sides <= 1 or self.over:
            return 0
        self.at += 1
        return self.data[self.at - 1] % sides

    @property
    def over(self) -> bool:
        return self.at >= len(self.data)

    def rest(self) -> str:
        "Some of what is left, as text; half a surrogate pair is possible, as it is in JSON."
        took = self.data[self.at : self.at + 24]
        self.at += 24
        return (
            took.decode("utf-16-le", "surrogatepass") if len(took) % 2 == 0 and _pairs(took) else took.decode("latin-1")
        )


def _pairs(took: bytes) -> bool:
    try:
        took.decode("utf-16-le", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _deep(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


STRANGE: tuple[Any, ...] = (
    *(None, True, False, "", " ", "NaN", "nan", "-", "AAPL", "1e5", "\x00", "\ud83d", "٣", "<b>", "x" * 3000),
    *(math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, -0.0, 0, -1, 1, 0.5, 100, 2**31, 2**53 + 1, 2**70, 10**400),
    *(
        "2022-02-30",
        "2022-01-03",
        "2022-01-03T05:00:00Z",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "2022-01-03T25:00:00Z",
    ),
    *("2022-01-03T05:00:00+99:99", "2022-01-03T05:00:00", 1641186000, 1641186000.5, -62135596800, 253402300800, 1e18),
    *([], {}, [None], [[]], {"": None}, [{}], {"t": {}}, _deep(40)),
)


def mutated(
    template: Any,  # decoded JSON
    dice: Dice,
) -> Any:  # a copy with up to five things wrong
    "An answer like the documented one, but not quite."
    whole = [copy.deepcopy(template)]
    for _ in range(1 + dice.throw(5)):
        holder, key = whole, 0
        while True:
            inside = holder[key]
            if isinstance(inside, dict | list) and inside and dice.throw(6):
                keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
                holder, key = inside, keys[dice.throw(len(keys))]
            else:
                break
        _spoil(holder, key, dice)
        if dice.over:
            break
    return whole[0] if whole else None


def _spoil(holder: Any, key: Any, dice: Dice) -> None:
    "One thing wrong at one place."
    how = dice.throw(8)
    if how == 0 and len(holder) > 1:
        del holder[key]
    elif how == 1 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif how == 2 and isinstance(holder, dict):
        holder[dice.rest() or "?"] = holder.pop(key)
    elif how == 3:
        holder[key] = dice.rest()
    elif how == 4:
        holder[key] = [holder[key]]
    elif how == 5:
        holder[key] = str(holder[key])
    else:
        holder[key] = copy.deepcopy(STRANGE[dice.throw(len(STRANGE))])


def answer(template: Any, data: bytes, source: str) -> Any:
    "A decoded answer: the bytes themselves, or the documented answer spoilt by them; some travel through JSON once more."
    from mlt_lib.data.wire import decoded

    if data[:1] == b"\xff":
        return decoded(source, data[1:])
    dice = Dice(data)
    value = mutated(template, dice)
    if dice.throw(4) == 0:
        try:
            return decoded(source, json.dumps(value).encode("utf-8", "surrogatepass"))
        except RecursionError:
            return value
    return value


# what may come out


def sound_damage(table: pd.DataFrame) -> None:
    "A list of what was refused can be stored: it has a place, a rule and a reason."
    assert set(REFUSED) <= set(table), list(table)
    assert table["session"].notna().all() and table["session"].dtype.kind == "M" and table["session"].dt.tz is None
    for column in ("symbol", "rule", "detail"):  # a symbol may be empty: what was refused is kept as it came
        assert all(isinstance(v, str) and (v or column == "symbol") for v in table[column]), (
            column,
            table[column].tolist(),
        )


def sound_bars(bars: pd.DataFrame, actions: pd.DataFrame) -> None:
    "Bars and actions that a table takes: a close in every row, and no infinity anywhere."
    assert set(BAR_COLUMNS) <= set(bars) and set(ACTION_COLUMNS) <= set(actions)
    for table, needed in ((bars, "close"), (actions, "value")):
        days = table["session"]
        assert days.notna().all() and (days.dtype.kind == "M" and days.dt.tz is None or table.empty)
        assert (days == days.dt.normalize()).all() if len(table) else True
        assert all(isinstance(symbol, str) and symbol for symbol in table["symbol"])
        numbers = table[[c for c in ("open", "high", "low", "close", "volume", "value") if c in table]].to_numpy(float)
        assert not np.isinf(numbers).any() and table[needed].notna().all()
    assert (actions["value"] > 0).all() and actions["kind"].isin(["split", "dividend"]).all()


def accepted(bars: pd.DataFrame, actions: pd.DataFrame | None, damaged: pd.DataFrame | None) -> None:
    "What validation lets through is fit for a table, and what it doesn't is listed."
    try:
        judged = validate_bars(bars, actions, damaged=damaged)
    except MltError as error:
        _one_line(error)
        return
    prices = judged.bars[["open", "high", "low", "close"]].to_numpy(float)
    assert judged.bars["close"].notna().all() and (prices[~np.isnan(prices)] > 0).all() and not np.isinf(prices).any()
    volume = judged.bars["volume"].to_numpy(float)
    assert not np.isinf(volume).any() and (volume[~np.isnan(volume)] >= 0).all()
    assert not judged.bars.duplicated(["symbol", "session"]).any()
    assert judged.quarantine["rule"].map(lambda rule: isinstance(rule, str) and bool(rule)).all()
    assert judged.quarantine["outcome"].isin(["quarantine", "reject"]).all()


def sound_bar_page(page: BarPage, data: bytes) -> None:
    "Every page is looked at; one in ten, chosen by its bytes, is judged too, which takes longer than reading it."
    sound_bars(page.bars, page.actions)
    sound_damage(page.damaged)
    if zlib.crc32(data) % 10 == 0:
        accepted(page.bars, page.actions, page.damaged)


def sound_text_page(page: TextPage) -> None:
    "Texts that the store takes and a scorer reads."
    from mlt_lib.data.sentiment import VADER_FINANCE
    from mlt_lib.store.texts import version

    assert set(TEXT_COLUMNS) <= set(page.texts)
    sound_damage(page.damaged)
    for row in page.texts.to_dict("records"):
        kept = version(row, "x")
        json.loads(kept["raw"], parse_constant=_no_constant)
        for value in kept.values():
            assert not isinstance(value, str) or "\x00" not in value.encode().decode()
    scores = VADER_FINANCE.score(page.texts["title"])
    assert scores.dropna().between(-1, 1).all()


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} in stored JSON")


def _one_line(error: MltError) -> None:
    assert "\n" not in str(error) and 10 < len(str(error)) < 1000, repr(str(error))


def guarded(parser: Callable[[bytes], None]) -> Callable[[bytes], None]:
    "Only an error of the desk's, in one line, may come out of a parser."

    def target(data: bytes) -> None:
        try:
            parser(data)
        except MltError as error:
            _one_line(error)

    target.__name__ = parser.__name__
    return target


# the documented answers

ALPACA_BARS = {
    "bars": {
        name: [
            {
                "t": f"2022-01-{day:02}T05:00:00Z",
                "o": 100.5,
                "h": 102.0,
                "l": 99.0,
                "c": 101.25,
                "v": 10000,
                "n": 99,
                "vw": 101.0,
            }
            for day in (3, 4, 5, 6)
        ]
        for name in NAMES
    },
    "next_page_token": None,
}
ALPACA_ACTIONS = {
    "corporate_actions": {
        "forward_splits": [
            {
                "id": "a",
                "symbol": "AAPL",
                "new_rate": 4,
                "old_rate": 1,
                "ex_date": "2022-01-05",
                "process_date": "2022-01-05",
            }
        ],
        "reverse_splits": [{"id": "b", "symbol": "AAPL", "new_rate": 1, "old_rate": 10, "ex_date": "2022-01-06"}],
        "cash_dividends": [
            {
                "id": "c",
                "symbol": "BRK.B",
                "rate": 0.22,
                "special": False,
                "ex_date": "2022-01-04",
                "payable_date": "2022-02-01",
            }
        ],
        "stock_dividends": [{"id": "d", "symbol": "AAPL", "rate": 0.05, "ex_date": "2022-01-04"}],
        "spin_offs": [
            {
                "id": "e",
                "source_symbol": "AAPL",
                "new_symbol": "X",
                "new_rate": 1,
                "source_rate": 3,
                "ex_date": "2022-01-04",
            }
        ],
        "cash_mergers": [{"id": "f", "acquiree_symbol": "AAPL", "rate": 30.5, "effective_date": "2022-01-06"}],
        "name_changes": [{"id": "g", "old_symbol": "AAPL", "new_symbol": "APL", "process_date": "2022-01-06"}],
    },
    "next_page_token": None,
}
ALPACA_NEWS = {
    "news": [
        {
            "id": 24843171, "headline": "Apple beats estimates", "author": "Ann", "created_at": "2022-01-03T15:00:00Z",
            "updated_at": "2022-01-03T15:30:00Z", "summary": "Better than feared.", "content": "<p>Long</p>",
            "url": "https://x.test/1", "images": [], "symbols": ["AAPL", "BRK.B"], "source": "benzinga",
        }
    ] * 2,
    "next_page_token": None,
}  # fmt: skip
_STAMPS = [1641220200 + 86400 * n for n in range(4)]
YAHOO = {
    "chart": {
        "result": [
            {
                "meta": {
                    "currency": "USD",
                    "symbol": "AAPL",
                    "exchangeTimezoneName": "America/New_York",
                    "gmtoffset": -18000,
                },
                "timestamp": _STAMPS,
                "events": {
                    "dividends": {str(_STAMPS[1]): {"amount": 0.22, "date": _STAMPS[1]}},
                    "splits": {
                        str(_STAMPS[2]): {"date": _STAMPS[2], "numerator": 4.0, "denominator": 1.0, "splitRatio": "4:1"}
                    },
                    "capitalGains": {},
                },
                "indicators": {
                    "quote": [
                        {
                            "open": [1.0] * 4,
                            "high": [1.2] * 4,
                            "low": [0.9] * 4,
                            "close": [1.1, None, 1.1, 1.15],
                            "volume": [5] * 4,
                        }
                    ],
                    "adjclose": [{"adjclose": [1.0, 1.0, 1.1, 1.15]}],
                },
            }
        ],
        "error": None,
    }
}
NEWSAPI = {
    "status": "ok",
    "totalResults": 2,
    "articles": [
        {
            "source": {"id": None, "name": "Wire"}, "author": None, "title": "Apple (AAPL) beats", "description": "Better.",
            "url": "https://x.test/2", "urlToImage": None, "publishedAt": "2022-01-03T15:00:00Z", "content": "Long [+99 chars]",
        }
    ] * 2,
}  # fmt: skip
REDDIT = {
    "kind": "Listing",
    "data": {
        "after": None,
        "children": [
            {
                "kind": "t3",
                "data": {
                    "id": "abc", "name": "t3_abc", "title": "AAPL to the moon", "selftext": "$AAPL", "author": "ann", "ups": 5,
                    "created_utc": 1641220200.0, "edited": False, "permalink": "/r/stocks/abc", "url": "https://x.test/3",
                    "subreddit": "stocks", "num_comments": 3, "stickied": False,
                },
            }
        ] * 2,
    },
}  # fmt: skip


# the parsers

TARGETS: dict[str, Callable[[bytes], None]] = {}


def target(name: str, *rooms: str) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    "Take a parser into the list where its rooms are."

    def take(parser: Callable[[bytes], None]) -> Callable[[bytes], None]:
        if all(find_spec(f"mlt_lib.{room}") for room in rooms):
            TARGETS[name] = guarded(parser)
        return parser

    return take


def room(name: str) -> Any:
    return import_module(f"mlt_lib.data.{name}")


@target("alpaca_bars", "data.alpaca_answers")
def alpaca_bars(data: bytes) -> None:
    sound_bar_page(room("alpaca_answers").read_bars(answer(ALPACA_BARS, data, "alpaca"), NAMES, NEWEST), data)


@target("alpaca_actions", "data.alpaca_answers")
def alpaca_actions(data: bytes) -> None:
    found, damaged = room("alpaca_answers").read_actions(answer(ALPACA_ACTIONS, data, "alpaca"), NAMES, NEWEST)
    sound_bar_page(BarPage(actions=room("answers").combined(found.values()), damaged=damaged), data)


@target("yahoo", "data.yahoo_answers")
def yahoo(data: bytes) -> None:
    payload = answer(YAHOO, data, "yahoo")
    start = pd.Timestamp("2022-01-03")
    sound_bar_page(room("yahoo_answers").read_chart(payload, "AAPL", start, pd.Timestamp("2022-01-31"), NEWEST), data)


NOW = datetime(2022, 12, 29, 12, tzinfo=UTC)


@target("alpaca_news", "data.alpaca_news")
def alpaca_news(data: bytes) -> None:
    sound_text_page(room("alpaca_news").read_news(answer(ALPACA_NEWS, data, "alpaca"), NOW))


@target("newsapi", "data.newsapi")
def newsapi(data: bytes) -> None:
    sound_text_page(room("newsapi").read_articles(answer(NEWSAPI, data, "newsapi"), NAMES, NOW))


@target("reddit", "data.reddit")
def reddit(data: bytes) -> None:
    page, after, oldest = room("reddit").read_listing(answer(REDDIT, data, "reddit"), NAMES, NOW)
    assert after is None or isinstance(after, str)
    assert oldest is None or pd.isna(oldest) or oldest.tz is not None
    sound_text_page(page)


TABLE = "mine"


def _file(data: bytes, ending: str) -> Path:
    "The bytes as a file; the same place each time."
    folder = Path(tempfile.gettempdir()) / f"soak-{TABLE}"
    folder.mkdir(exist_ok=True)
    path = folder / f"desk{ending}"
    path.write_bytes(data)
    return path


CSVS = (
    b"date,AAPL,KO\n2022-01-03,100,50\n2022-01-04,101,n/a\n",
    b"Symbol,Date,Open,High,Low,Close,Volume,Split,Dividend\nAAPL,2022-01-03,1,2,0.5,1.5,100,,\nAAPL,2022-01-04,1,2,0.5,1.5,100,4:1,0.2\n",
    b"ticker;session;close\nKO;03.01.2022;50\nKO;14.01.2022;51\n",
    b"symbol,date,close,currency,adj close\nKO,01/03/2022,50,USD,49\nKO,01/14/2022,51,USD,50\n",
)


def _csv(data: bytes) -> bytes:
    "Bytes as they are, or a usual file with some of its bytes replaced."
    if data[:1] == b"\xff" or not data:
        return data[1:]
    dice = Dice(data)
    table = bytearray(CSVS[dice.throw(len(CSVS))])
    pieces = (
        b",",
        b"\n",
        b'"',
        b"\r",
        b";",
        b"-",
        b"nan",
        b"inf",
        b"1e999",
        b"0",
        b"\x00",
        b"\xff",
        b"2022-01-03",
        b"32/13/1",
        b"",
    )
    while not dice.over:
        at = (dice.throw(256) * 256 + dice.throw(256)) % (len(table) + 1)
        how = dice.throw(3)
        piece = pieces[dice.throw(len(pieces))] if how else bytes([dice.throw(256)])
        table[at : at + dice.throw(4)] = piece
    return bytes(table)


@target("files_wide", "data.files")
def files_wide(data: bytes) -> None:
    from mlt_lib.data.validate import validate

    raw = room("files").closes(_file(_csv(data), ".csv"))
    sound_damage(raw.damaged)
    prices = validate(raw.prices, damaged=raw.damaged).prices.to_numpy(float)
    assert not np.isinf(prices).any() and (prices[~np.isnan(prices)] > 0).all()


@target("files_bars", "data.bar_files")
def files_bars(data: bytes) -> None:
    raw = room("bar_files").bars(_file(_csv(data), ".csv"))
    assert set(BAR_COLUMNS) <= set(raw.bars) and set(ACTION_COLUMNS) <= set(raw.actions)
    sound_damage(raw.damaged)
    accepted(raw.bars, raw.actions, raw.damaged)


@target("files_parquet", "data.bar_files")
def files_parquet(data: bytes) -> None:
    "A parquet file with columns of unusual kinds; the container's own bytes are pyarrow's affair."
    dice = Dice(data)
    kinds: tuple[Callable[[list[str]], Any], ...] = (
        lambda v: pd.to_datetime(pd.Series(v), errors="coerce", format="mixed", utc=True).dt.tz_localize(None),
        lambda v: pd.to_datetime(pd.Series(v), errors="coerce", format="mixed", utc=True),
        pd.Series,
        lambda v: pd.to_numeric(pd.Series([x[:40] for x in v]), errors="coerce"),
        lambda v: pd.Series([x == "True" for x in v]),
        lambda v: pd.Series([x.encode()[:9] for x in v]),
        lambda v: pd.Series([[1.0]] * len(v)),
        lambda v: pd.Series(v, dtype="category"),
    )
    names = ("date", "symbol", "close", "open", "split", "dividend", "volume", "KO", "", "adj_close", "currency")
    table, rows = {}, 1 + dice.throw(4)
    for _ in range(1 + dice.throw(6)):
        values = [str(STRANGE[dice.throw(len(STRANGE))]).encode("utf-8", "replace").decode() for _ in range(rows)]
        table[names[dice.throw(len(names))]] = kinds[dice.throw(len(kinds))](values)
    path = _file(b"", ".parquet")
    pd.DataFrame(table).to_parquet(path)
    raw = room("bar_files").bars(path)
    sound_damage(raw.damaged)
    accepted(raw.bars, raw.actions, raw.damaged)


@target("validate", "data.bars")
def validate_any(data: bytes) -> None:
    "Bars of which anything may be wrong."
    dice = Dice(data)
    days = pd.bdate_range("2021-12-20", periods=30)
    symbols = ("AAPL", "KO", "", "é", "X" * 50)
    strange = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-320, 1e308, 1e12, 100.0, 1.0, 50.0)
    rows = []
    for at in range(dice.throw(40)):
        price = 100.0 + at % 7
        row = [symbols[dice.throw(2)], days[dice.throw(30)], price, price + 1, price - 1, price, 1e4]
        if dice.throw(4) == 0:
            where = dice.throw(7)
            row[where] = (
                symbols[dice.throw(5)]
                if where == 0
                else pd.NaT
                if where == 1 and dice.throw(2)
                else days[0] + pd.Timedelta(days=dice.throw(256) * 99)
                if where == 1
                else strange[dice.throw(len(strange))]
            )
        rows.append(row)
    bars = pd.DataFrame(rows, columns=list(BAR_COLUMNS)).astype({"session": "datetime64[us]"})
    acts = [
        (
            symbols[dice.throw(2)],
            days[dice.throw(30)],
            ("split", "dividend", "merger")[dice.throw(3)],
            strange[dice.throw(len(strange))],
        )
        for _ in range(dice.throw(4))
    ]
    actions = pd.DataFrame(acts, columns=list(ACTION_COLUMNS)).astype({"session": "datetime64[us]"})
    accepted(bars, actions, None)


@target("lexicon", "data.lexicon")
def lexicon(data: bytes) -> None:
    from mlt_lib.data.lexicon import FINANCE, read_lexicon
    from mlt_lib.data.sentiment import LexiconScorer

    dice = Dice(data)
    ending = (".csv", ".yaml")[dice.throw(2)]
    found = read_lexicon(
        _file((b"word,valence\n" if ending == ".csv" and dice.throw(4) else b"") + data[dice.at :], ending)
    )
    assert all(math.isfinite(v) and abs(v) <= 4 for v in found.values())
    scorer = LexiconScorer(FINANCE.extended(found), 1.0)
    assert scorer.score(pd.Series([*list(found)[:4], "up and down"], dtype=object)).dropna().between(-1, 1).all()


@target("texts", "data.sentiment")
def texts(data: bytes) -> None:
    from mlt_lib.data.sentiment import VADER_FINANCE, plain, text_key

    text = Dice(data).rest() + data[24:].decode("utf-8", "surrogateescape")
    assert len(plain(text)) <= 280 and text_key(text) == text_key(text)
    assert VADER_FINANCE.score(pd.Series([text], dtype=object)).dropna().between(-1, 1).all()


@target("answers", "data.answers", "data.wire")
def answers(data: bytes) -> None:
    "What the sources share: the body, the headers, the message of a refusal."
    wire, dice = room("wire"), Dice(data)
    wait = wire.wait_seconds({"Retry-After": dice.rest(), "X-RateLimit-Reset": dice.rest()}, NOW)
    assert wait is None or 0 <= wait <= 3600
    _one_line(wire.refusal("alpaca", 300 + dice.throw(250), dice.rest() * 50, {"retry-after": dice.rest()}, NOW))
    json.loads(room("answers").raw_json(mutated(ALPACA_NEWS, dice)), parse_constant=_no_constant)
    wire.decoded("alpaca", data)
