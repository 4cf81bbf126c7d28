"""Four vendors on one loopback port: their documented shapes, pages and refusals, and every way in which they fail.

`with serving() as vendors:` gives the address (`vendors.url`), what is on offer (`vendors.bars`, `.actions`, `.news`, …,
all of which a test may change), what was asked (`vendors.requests`), and `vendors.fail(...)`, which spoils the next answers.
"""

import asyncio
import json
import threading
from base64 import b64encode
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pandas as pd
from aiohttp import web

from mlt_lib.market.calendar import sessions

NEW_YORK = ZoneInfo("America/New_York")
KEY, SECRET = "PKTESTKEY00000001", "testsecret/very+secret00000000000001"
NEWSAPI_KEY = "0123456789abcdef0123456789abcdef"
REDDIT_ID, REDDIT_SECRET = "reddit-app-id-1", "reddit-app-secret-1"
SPAN = ("2021-12-01", "2022-03-31")
FAULTS = [
    "401",
    "403",
    "404",
    "422",
    "429",
    "500",
    "503",
    "504",
    "302",
    "html",
    "empty",
    "half",
    "truncated",
    "drop",
    "hang",
    "drip",
    "list",
    "null",
    "deep",
    "nan",
    "huge",
    "scalar",
]
SLOW = ("hang", "drip", "drip_length")


def patience(fault: str) -> float:
    "Seconds to wait for an answer: few where none will come, many where a loaded machine may be slow to give it."
    return 0.3 if fault in SLOW else 20.0


HTML = "<!doctype html><html><head><title>We will be right back</title></head><body>Scheduled maintenance</body></html>"


def made_bars(symbol: str, first: float) -> list[dict]:
    "Raw bars that a person can check: the close rises a cent a session from `first`."
    rows = []
    for i, session in enumerate(sessions(*SPAN)):
        close = round(first + i / 100, 2)
        rows.append({"session": session, "o": close, "h": close + 1, "l": close - 1, "c": close, "v": 1000 + i})
    return rows


def stamped(session: pd.Timestamp) -> str:
    "Midnight in New York, as Alpaca stamps a daily bar."
    moment = datetime(session.year, session.month, session.day, tzinfo=NEW_YORK).astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def opening(session: pd.Timestamp) -> int:
    "Half past nine in New York in seconds since 1970, as Yahoo stamps a daily bar."
    return int(datetime(session.year, session.month, session.day, 9, 30, tzinfo=NEW_YORK).timestamp())


@dataclass
class Vendors:
    url: str = ""
    bars: dict = field(default_factory=dict)  # symbol -> rows as `made_bars` gives them: raw, as traded
    actions: dict = field(default_factory=dict)  # as in Alpaca's answer
    yahoo: dict = field(
        default_factory=dict
    )  # symbol -> {"splits": [(session, new, old)], "dividends": [(session, usd)]}
    news: list = field(default_factory=list)
    articles: list = field(default_factory=list)
    posts: dict = field(default_factory=dict)  # subreddit -> posts, newest first
    token_answer: object = None  # what Reddit says to a login; None: a token for the right id and secret
    requests: list = field(default_factory=list)  # (path, query)
    headers: list = field(default_factory=list)  # of each request
    page: int = 10_000  # most bars in an answer
    wait: dict = field(default_factory=dict)  # headers sent with a 429
    message: str = "refused by the test"
    invalid: set = field(default_factory=set)  # symbols that Alpaca calls invalid
    faults: deque = field(default_factory=deque)  # (fault, path part)
    stop: asyncio.Event | None = None

    def fail(self, *faults: str, on: str = "") -> None:
        "Spoil the next answers, in this order, to paths that contain `on`."
        self.faults.extend((fault, on) for fault in faults)

    def asked(self, part: str) -> list[dict]:
        "The queries to paths that contain `part`."
        return [query for path, query in self.requests if part in path]


def _deep() -> str:
    return "[" * 100_000


async def _spoilt(vendors: Vendors, request: web.Request, fault: str) -> web.StreamResponse:
    if fault.isdigit():
        headers = vendors.wait if fault == "429" else {"Location": "http://127.0.0.1:9/"} if fault == "302" else {}
        return web.json_response({"message": vendors.message}, status=int(fault), headers=headers)
    if fault in ("hang", "drip", "drip_length"):
        length = {"Content-Length": "100000"} if fault == "drip_length" else {}
        response = web.StreamResponse(headers={"Content-Type": "application/json"} | length)
        if fault != "hang":
            await response.prepare(request)
        for _ in range(3000):
            if vendors.stop.is_set():
                break
            if fault != "hang":
                await response.write(b" ")
            await asyncio.sleep(0.02)
        raise web.HTTPGatewayTimeout
    if fault == "drop":
        request.transport.abort()
        return web.Response()
    if fault == "truncated":
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "5000"})
        await response.prepare(request)
        await response.write(b'{"bars": {"AAPL": [')
        request.transport.close()
        return response
    bodies = {
        "html": HTML,
        "empty": "",
        "half": '{"bars": {"AAPL": [{"t": "2022-01-03T05:0',
        "list": "[1, 2, 3]",
        "null": "null",
        "deep": _deep(),
        "nan": "NaN",
        "huge": "1" * 6000,
        "scalar": '{"bars": 3, "news": "x", "articles": {"a": 1}, "chart": [], "data": 7, "corporate_actions": "none"}',
    }
    kind = "text/html" if fault == "html" else "application/json"
    return web.Response(text=bodies[fault], content_type=kind)


@web.middleware
async def _spoil(request: web.Request, handler):
    vendors = request.app[VENDORS]
    vendors.requests.append((request.path, dict(request.query)))
    vendors.headers.append({name.lower(): value for name, value in request.headers.items()})
    for item in list(vendors.faults):
        if (
            item[1] in request.path
            and not request.path.endswith(("/getcrumb", "/access_token", "/fc"))
            or item[1] == "*"
        ):
            vendors.faults.remove(item)
            return await _spoilt(vendors, request, item[0])
    response = await handler(request)
    response.enable_compression()  # gzip where the client takes it, as vendors do
    return response


VENDORS: web.AppKey[Vendors] = web.AppKey("vendors", Vendors)
routes = web.RouteTableDef()


def _alpaca_key(request: web.Request) -> web.Response | None:
    given = (request.headers.get("APCA-API-KEY-ID"), request.headers.get("APCA-API-SECRET-KEY"))
    if given == (KEY, SECRET):
        return None
    return web.json_response({"message": "forbidden."}, status=403)


def _cut(rows: list, request: web.Request, page: int) -> tuple[list, str | None]:
    "A page of rows, and the token of the next."
    first = int(request.query.get("page_token") or 0)
    size = min(page, int(request.query.get("limit") or page))
    return rows[first : first + size], str(first + size) if first + size < len(rows) else None


@routes.get("/v2/stocks/bars")
async def _bars(request: web.Request) -> web.Response:
    vendors, query = request.app[VENDORS], request.query
    if refused := _alpaca_key(request):
        return refused
    asked = query["symbols"].split(",")
    if bad := [symbol for symbol in asked if symbol in vendors.invalid]:
        return web.json_response({"message": f"invalid symbol: {bad[0]}"}, status=400)
    rows = [(s, row) for s in sorted(asked) for row in vendors.bars.get(s, [])]
    yearly = query["timeframe"] != "1Day"
    first, last = pd.Timestamp(query["start"]), pd.Timestamp(query["end"])
    rows = [(s, row) for s, row in rows if yearly or first <= pd.Timestamp(stamped(row["session"])) <= last]
    rows, token = _cut(rows, request, vendors.page)
    given: dict = {}
    for symbol, row in rows:
        shown = {"t": row.get("t") or stamped(row["session"]), "n": 10, "vw": row["c"]}
        given.setdefault(symbol, []).append(shown | {name: row[name] for name in "ohlcv"})
    return web.Response(
        text=json.dumps({"bars": given, "next_page_token": token}), content_type="application/json"
    )  # json.dumps writes NaN and Infinity, which some vendors do


@routes.get("/v1/corporate-actions")
async def _actions(request: web.Request) -> web.Response:
    if refused := _alpaca_key(request):
        return refused
    vendors, query = request.app[VENDORS], request.query
    asked = query["symbols"].split(",")
    if bad := [symbol for symbol in asked if symbol in vendors.invalid]:
        return web.json_response({"message": f"invalid symbol: {bad[0]}"}, status=400)
    rows = [
        (kind, row)
        for kind, listed in vendors.actions.items()
        for row in listed
        if asked and query["start"] <= str(row.get("ex_date")) <= query["end"]
        if any(row.get(name) in asked for name in ("symbol", "source_symbol"))
    ]
    rows, token = _cut(rows, request, vendors.page)
    given: dict = {}
    for kind, row in rows:
        given.setdefault(kind, []).append(row)
    return web.json_response({"corporate_actions": given, "next_page_token": token})


@routes.get("/v1beta1/news")
async def _news(request: web.Request) -> web.Response:
    if refused := _alpaca_key(request):
        return refused
    vendors, query = request.app[VENDORS], request.query
    asked = set((query.get("symbols") or "").split(",")) - {""}
    rows = [item for item in vendors.news if not asked or asked & set(item.get("symbols") or ())]
    rows = [item for item in rows if query["start"] <= str(item.get("updated_at")) <= query["end"]]
    rows, token = _cut(rows, request, min(vendors.page, 50))
    return web.json_response({"news": rows, "next_page_token": token})


@routes.get("/")
async def _cookie(request: web.Request) -> web.Response:
    response = web.Response(text="")
    response.set_cookie("A3", "d=crumbs")
    return response


@routes.get("/v1/test/getcrumb")
async def _crumb(request: web.Request) -> web.Response:
    return web.Response(text="cr.umb")


@routes.get("/consent")
async def _consent(request: web.Request) -> web.Response:
    return web.Response(text="<html><body>nothing to agree to</body></html>", content_type="text/html")


def _chart(error: dict | None, result: dict | None = None, status: int = 200) -> web.Response:
    answer = {"chart": {"result": result and [result], "error": error}}
    return web.Response(text=json.dumps(answer), status=status, content_type="application/json")


@routes.get("/v8/finance/chart/{symbol}")
async def _yahoo(request: web.Request) -> web.Response:
    vendors, query = request.app[VENDORS], request.query
    if query.get("crumb") != "cr.umb":
        return web.json_response(
            {"finance": {"error": {"code": "Unauthorized", "description": "Invalid Crumb"}}}, status=401
        )
    spelt = request.match_info["symbol"]
    symbol = spelt.replace("-", ".")
    if symbol not in vendors.bars:
        error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
        return _chart(error, status=404)
    extra = vendors.yahoo.get(symbol, {})
    splits, dividends = extra.get("splits", []), extra.get("dividends", [])
    first, last = int(query["period1"]), int(query["period2"])
    rows = [row for row in vendors.bars[symbol] if first <= opening(row["session"]) < last]
    if not rows:
        error = {"code": "Bad Request", "description": f"Data doesn't exist for startDate = {first}, endDate = {last}"}
        return _chart(error, status=400)

    def factor(session) -> float:  # what Yahoo divides a price of this session by
        product = 1.0
        for day, new, old in extra.get("worked_in", splits):
            product *= new / old if session < day else 1.0
        return product

    def price(value, session):
        return value / factor(session) if type(value) is float else value

    quote = {
        name: [price(row[key], row["session"]) for row in rows]
        for name, key in (("open", "o"), ("high", "h"), ("low", "l"), ("close", "c"))
    }
    quote["volume"] = [row["v"] * factor(row["session"]) if type(row["v"]) is int else row["v"] for row in rows]
    events = {
        "splits": {str(opening(d)): {"date": opening(d), "numerator": n, "denominator": o} for d, n, o in splits},
        "dividends": {str(opening(d)): {"date": opening(d), "amount": usd / factor(d)} for d, usd in dividends},
    }
    meta = {"symbol": spelt, "currency": "USD", "exchangeTimezoneName": "America/New_York"}
    result = {
        "meta": meta | extra.get("meta", {}),
        "timestamp": [row.get("stamp", opening(row["session"])) for row in rows],
        "events": events | extra.get("events", {}),
        "indicators": {"quote": [quote | extra.get("quote", {})], "adjclose": [{"adjclose": quote["close"]}]},
    }
    return _chart(None, result)


@routes.get("/v2/everything")
async def _everything(request: web.Request) -> web.Response:
    vendors, query = request.app[VENDORS], request.query

    def error(status: int, code: str, message: str) -> web.Response:
        return web.json_response({"status": "error", "code": code, "message": message}, status=status)

    if request.headers.get("X-Api-Key") != NEWSAPI_KEY:
        return error(401, "apiKeyInvalid", "Your API key is invalid or incorrect. Check your key, or go to the site.")
    if not query.get("q") or len(query["q"]) > 500:
        return error(400, "parametersMissing", "Required parameters are missing.")
    if int(query.get("page", 1)) * int(query["pageSize"]) > 100:
        return error(426, "maximumResultsReached", "Developer accounts are limited to a max of 100 results.")
    found = [a for a in vendors.articles if query["from"] <= str(a.get("publishedAt")).rstrip("Z") <= query["to"]]
    found.sort(key=lambda a: a["publishedAt"], reverse=True)
    shown = found[: int(query["pageSize"])]
    return web.json_response({"status": "ok", "totalResults": len(found), "articles": shown})


@routes.post("/api/v1/access_token")
async def _token(request: web.Request) -> web.Response:
    vendors = request.app[VENDORS]
    if vendors.token_answer is not None:
        return web.json_response(vendors.token_answer)
    given = request.headers.get("Authorization", "")
    if given != "Basic " + b64encode(f"{REDDIT_ID}:{REDDIT_SECRET}".encode()).decode():
        return web.json_response({"message": "Unauthorized", "error": 401}, status=401)
    return web.json_response({"access_token": "t0ken", "token_type": "bearer", "expires_in": 86400, "scope": "*"})


@routes.get("/r/{name}/new")
async def _listing(request: web.Request) -> web.Response:
    vendors, query, name = request.app[VENDORS], request.query, request.match_info["name"]
    if request.headers.get("Authorization") != "bearer t0ken":
        return web.json_response({"message": "Unauthorized", "error": 401}, status=401)
    if name not in vendors.posts:
        if name == "closed":
            return web.json_response({"reason": "private", "message": "Forbidden", "error": 403}, status=403)
        return web.json_response({"message": "Not Found", "error": 404}, status=404)
    posts = vendors.posts[name]
    names = [post.get("name") for post in posts]
    first = names.index(query["after"]) + 1 if query.get("after") else 0
    shown = posts[first : first + min(vendors.page, int(query["limit"]))]
    more = shown and first + len(shown) < min(len(posts), 1000)
    data = {"after": shown[-1]["name"] if more else None, "before": None, "dist": len(shown)}
    data["children"] = [{"kind": "t3", "data": post} for post in shown]
    headers = {"x-ratelimit-remaining": "0.0", "x-ratelimit-used": "100", "x-ratelimit-reset": "599"}
    return web.json_response({"kind": "Listing", "data": data}, headers=headers)


@contextmanager
def serving(**changes):
    "The vendors on a free port of 127.0.0.1, in a thread."
    vendors = Vendors(
        bars={"AAPL": made_bars("AAPL", 100.0), "KO": made_bars("KO", 50.0), "BRK.B": made_bars("BRK.B", 300.0)},
        **changes,
    )
    started, loop = threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        app = web.Application(middlewares=[_spoil])
        app[VENDORS] = vendors
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        vendors.url, vendors.stop = f"http://127.0.0.1:{runner.addresses[0][1]}", asyncio.Event()
        started.set()
        await vendors.stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield vendors
    finally:
        loop.call_soon_threadsafe(vendors.stop.set)
        thread.join(5)
        loop.close()
