"""Every parser on input that nobody meant: nothing but an error of the desk's comes out, and no NaN or infinity goes in.

The same targets as in tests/soak, where atheris has ten minutes for each; here hypothesis has a moment. More examples:
MLT_SOAK_EXAMPLES=5000 python -m pytest tests/data/test_data_parsers.py
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PLACE = Path(__file__).parents[1] / "soak/parsers.py"
SPEC = importlib.util.spec_from_file_location("soak_parsers", PLACE)
parsers = importlib.util.module_from_spec(SPEC)
sys.modules["soak_parsers"] = parsers
SPEC.loader.exec_module(parsers)

EXAMPLES = int(os.environ.get("MLT_SOAK_EXAMPLES", "0"))
SLOW = {"validate": 12, "alpaca_bars": 25, "yahoo": 25, "files_wide": 25}


FAULTS: dict[str, str] = {}


def known(name: str):
    "A parser whose fault is known and not mended yet is expected to fail."
    return pytest.param(name, marks=pytest.mark.xfail(reason=FAULTS[name], strict=False)) if name in FAULTS else name


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    "Files of a test lie in a folder of its own."
    monkeypatch.setattr(parsers.tempfile, "gettempdir", lambda: str(tmp_path))


@pytest.mark.filterwarnings("ignore:Could not infer format")
@pytest.mark.timeout(0 if EXAMPLES else 120)
@pytest.mark.parametrize("name", [known(name) for name in parsers.TARGETS])
def test_a_parser_stands_any_input(name):
    @settings(max_examples=EXAMPLES or SLOW.get(name, 40), deadline=None, derandomize=not EXAMPLES, database=None)
    @given(st.binary(max_size=120) | st.binary(max_size=60).map(lambda data: b"\xff" + data))
    def any_input(data):
        parsers.TARGETS[name](data)

    any_input()


@pytest.mark.parametrize("name", ["alpaca_bars", "alpaca_actions", "yahoo"])
def test_the_documented_answer_itself_is_read(name):
    "Or the fuzz would be of something that never gets past the door."
    room, newest = parsers.room, parsers.NEWEST
    if name == "alpaca_bars":
        page = room("alpaca_answers").read_bars(parsers.ALPACA_BARS, parsers.NAMES, newest)
        assert len(page.bars) == 8 and page.damaged.empty
    elif name == "alpaca_actions":
        found, damaged = room("alpaca_answers").read_actions(parsers.ALPACA_ACTIONS, parsers.NAMES, newest)
        assert len(found) == 4 and len(damaged) == 3
    else:
        days = [parsers.pd.Timestamp(day) for day in ("2022-01-03", "2022-01-31")]
        page = room("yahoo_answers").read_chart(parsers.YAHOO, "AAPL", *days, newest)
        assert len(page.bars) == 3 and len(page.actions) == 2 and len(page.damaged) == 1


@pytest.mark.parametrize("name", ["alpaca_news", "newsapi", "reddit"])
def test_the_documented_texts_are_read(name):
    rooms = {"alpaca_news": "read_news", "newsapi": "read_articles", "reddit": "read_listing"}
    payload = {"alpaca_news": parsers.ALPACA_NEWS, "newsapi": parsers.NEWSAPI, "reddit": parsers.REDDIT}[name]
    about = () if name == "alpaca_news" else (parsers.NAMES,)
    page = getattr(parsers.room(name), rooms[name])(payload, *about, parsers.NOW)
    page = page[0] if isinstance(page, tuple) else page
    assert len(page.texts) == 2 and page.damaged.empty and page.texts["symbols"].iloc[0][0] == "AAPL"
    parsers.sound_text_page(page)


def test_a_sound_page_is_told_from_an_unsound_one():
    "The judge itself can say no."
    bars = parsers.pd.DataFrame([("KO", parsers.NEWEST, 1.0, 1.0, 1.0, 1.0, 1.0)], columns=list(parsers.BAR_COLUMNS))
    none = parsers.BarPage()
    parsers.sound_bars(bars, none.actions)
    for wrong in ({"close": float("nan")}, {"volume": float("inf")}, {"session": parsers.pd.NaT}, {"symbol": ""}):
        with pytest.raises(AssertionError):
            parsers.sound_bars(bars.assign(**wrong), none.actions)
    with pytest.raises(ZeroDivisionError):
        parsers.guarded(lambda data: 1 / 0)(b"")
