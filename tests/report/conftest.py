"What the tests of the report share: returns to draw, and a strict reader of the page's HTML."

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

VOID = {"meta", "link", "br", "img", "hr", "input", "path", "use", "rect"}


class Page(HTMLParser):
    "The tags, attributes and text of a page; unbalanced tags are an error."

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
            self.open.pop()

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict]:
        "The attributes of each such tag."
        return [a for t, a in self.tags if t == tag]

    @property
    def text(self) -> str:
        return "".join(t for _, t in self.texts)


@pytest.fixture(scope="session")
def read():
    "A page read strictly."
    return Page


@pytest.fixture(scope="session")
def streams() -> tuple[pd.Series, pd.Series]:
    "Eight years of daily returns of a book and its market."
    rng = np.random.default_rng(11)
    days = pd.bdate_range("2015-01-02", periods=2016)
    market = pd.Series(rng.normal(0.0004, 0.01, len(days)), days)
    return 0.7 * market + rng.normal(0.0002, 0.004, len(days)), market
