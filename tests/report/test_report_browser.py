"The page in a real browser: no complaint, no request but the file itself, and no sideways scroll on a phone."

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlt_lib.report import publish, sheet, tear

SAMPLES = Path(__file__).parents[2] / "reports/sample"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET += " --disable-component-update --disable-sync --hide-scrollbars --remote-debugging-port=0"


class Tab:
    "One browser tab, spoken to over its debugging socket."

    def __init__(self, socket):
        self.socket, self.count, self.events = socket, 0, []

    async def call(self, method, **parameters):
        "Ask the browser something; events that arrive meanwhile are kept."
        self.count += 1
        await self.socket.send_json({"id": self.count, "method": method, "params": parameters})
        async for message in self.socket:
            told = json.loads(message.data)
            if told.get("id") == self.count:
                return told["result"]
            self.events.append(told)

    async def value(self, script):
        "What a script gives, run by the debugger."
        return (await self.call("Runtime.evaluate", expression=script, returnByValue=True))["result"]["value"]

    async def open(self, page, width, media="", scheme="light"):
        "Open a page at a width, in a medium and a colour scheme, and wait until it is there."
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        await self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        await self.call("Page.navigate", url=page.as_uri())
        for _ in range(100):
            if await self.value("document.readyState") == "complete":
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(page)


async def look(page, port):
    "What the browser says of a page."
    import aiohttp

    seen = {}
    async with aiohttp.ClientSession() as session:
        tabs = await (await session.get(f"http://127.0.0.1:{port}/json")).json()
        address = next(t["webSocketDebuggerUrl"] for t in tabs if t["type"] == "page")
        async with session.ws_connect(address, max_msg_size=0) as socket:
            tab = Tab(socket)
            for part in ("Page", "Network", "Log", "Runtime"):
                await tab.call(f"{part}.enable")
            for width in (1100, 768, 390):
                await tab.open(page, width)
                seen[width] = await tab.value("document.documentElement.scrollWidth")
            seen["phone picture"] = await tab.value("getComputedStyle(document.querySelector('.wide')).display")
            await tab.open(page, 1100, scheme="dark")
            seen["dark"] = await tab.value("getComputedStyle(document.body).backgroundColor")
            await tab.open(page, 700, media="print", scheme="dark")
            seen["print"] = await tab.value("getComputedStyle(document.body).backgroundColor")
            seen["script"] = await tab.value("document.scripts.length")
            seen["events"] = tab.events
    return seen


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    "The debugging port of a headless browser."
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    profile = tmp_path_factory.mktemp("profile")
    browser = subprocess.Popen(
        [CHROMIUM, *QUIET.split(), f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.DEVNULL
    )
    try:
        told = profile / "DevToolsActivePort"
        for _ in range(300):
            if told.exists() and "\n" in told.read_text():
                break
            browser.poll() is None or pytest.fail(f"{CHROMIUM} ended with {browser.returncode} before it listened")
            asyncio.run(asyncio.sleep(0.1))
        yield int(told.read_text().split()[0])
    finally:
        browser.terminate()
        browser.wait(20)


def nothing_to_complain_of(page, port):
    "No console message, no request but the page itself, no sideways scroll at any width."
    seen = asyncio.run(look(page, port))
    said = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    asked = {e["params"]["request"]["url"] for e in seen["events"] if e["method"] == "Network.requestWillBeSent"}
    assert [e for e in seen["events"] if e["method"] in said] == []
    assert {a for a in asked if not a.startswith("data:")} == {page.as_uri()}
    assert [seen[width] for width in (1100, 768, 390)] == [1100, 768, 390]
    return seen


@pytest.mark.process
def test_the_sample_report_is_clean_in_a_browser_and_light(port):
    page = SAMPLES / "2022-12-28.html"
    assert page.stat().st_size < 500_000
    nothing_to_complain_of(page, port)


@pytest.mark.process
def test_a_browser_has_nothing_to_complain_of(tmp_path, port, streams):
    book, market = streams
    wide = pd.DataFrame({f"column number {i}": np.arange(3) for i in range(12)})
    pieces = [
        sheet.headline("Daily report", "close"),
        sheet.banner("near", "Within limits, one near its bound. " * 3, "Near a bound"),
        sheet.kpis([("Equity", "$1,042,319", "+1.24 % today")] * 6),
        sheet.columns(sheet.table(wide, "a wide table"), sheet.note("beside it <script>document.title='x'</script>")),
        tear.wealth_and_drawdown(book, market),
        tear.bars(pd.Series({"A" * 30: 0.1, "B": -0.2}), "Weights."),
        tear.perf_table(tear.perf_stats(book, market)),
        sheet.provenance({"hash": "f" * 64}),
    ]
    page = publish.replace_file(tmp_path / "page.html", publish.pieces_to_html(pieces, "Daily report"))
    seen = nothing_to_complain_of(page, port)
    assert seen["phone picture"] == "none" and seen["script"] == 0
    assert (seen["dark"], seen["print"]) == ("rgb(15, 21, 27)", "rgb(255, 255, 255)")
