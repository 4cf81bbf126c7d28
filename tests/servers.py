"""Where the test servers are: a variable says so, else the file that `make services` wrote.

A test that wants one and finds none skips with the reason; with MLT_REQUIRE_SERVICES=1, as in CI, it fails.
"""

import json
import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

URLS = Path(__file__).parents[1] / ".services/urls.json"
CALLED = {"postgres": "PostgreSQL", "timescale": "TimescaleDB"}


def postgres_url() -> str:
    "The address of a plain PostgreSQL, as superuser; skips when there is none."
    return _url("postgres")


def timescale_url() -> str:
    "The address of a PostgreSQL with TimescaleDB, as superuser; skips when there is none."
    return _url("timescale")


@cache
def found(name: str) -> tuple[str, str]:
    "The address of `postgres` or `timescale`, or an empty one and the reason."
    if url := os.environ.get(variable := f"MLT_TEST_{name.upper()}_URL"):
        return (url, "") if _answers(url) else ("", f"{CALLED[name]} of {variable} doesn't answer")
    with suppress(OSError, ValueError):
        url = json.loads(URLS.read_text()).get(name, "")
        if url and _answers(url):
            return url, ""
    return "", f"no {CALLED[name]}: run `make services`"


def _url(name: str) -> str:
    "The address, or the end of this test."
    url, reason = found(name)
    if not url:
        required = os.environ.get("MLT_REQUIRE_SERVICES") == "1" or f"MLT_TEST_{name.upper()}_URL" in os.environ
        (pytest.fail if required else pytest.skip)(reason)
    return url


def _answers(url: str) -> bool:
    "Does anybody listen there?"
    parts = urlsplit(url)
    with suppress(OSError), socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 5432), timeout=2):
        return True
    return False
