"Each rule marks what it names, and leaves alone what only looks like it."

import numpy as np
import pandas as pd
import pytest

from mlt_lib.data import rules
from mlt_lib.data.bars import ALONE, LEVELS, REMARKS
from mlt_lib.data.rules import RULES, Panel, usual
from mlt_lib.market.calendar import sessions

DAYS = sessions("2016-01-04", "2017-12-29")
NAMES = [f"N{i}" for i in range(8)]
AT = 300  # where something happens


def market(seed: int = 3) -> dict[str, pd.DataFrame]:
    "Eight quiet names with ranges, volumes and no actions."
    random = np.random.default_rng(seed)
    shape = (len(DAYS), len(NAMES))
    close = pd.DataFrame(50 * np.exp(np.cumsum(random.normal(0, 0.012, shape), axis=0)), DAYS, NAMES)
    half = close * random.uniform(0.003, 0.012, shape)
    table = {"open": close - half / 2, "high": close + half, "low": close - half, "close": close}
    volume = pd.DataFrame(random.lognormal(15, 0.3, shape).round(), DAYS, NAMES)
    flat = pd.DataFrame(1.0, DAYS, NAMES)
    return table | {"volume": volume, "split": flat.copy(), "dividend": flat * 0.0}


def scaled(table: dict, rows: slice | int, factor: float, name: str = "N0", volume: float = 1.0) -> dict:
    "The prices of one name times a factor."
    column = NAMES.index(name)
    for field in ("open", "high", "low", "close"):
        table[field].iloc[rows, column] *= factor
    table["volume"].iloc[rows, column] *= volume
    return table


def marked(rule, table: dict) -> list[tuple[int, str]]:
    "Which rows and names a rule marks."
    panel = Panel(**table)
    rows, columns = np.nonzero(rule(panel, usual(panel)).to_numpy())
    return [(int(row), NAMES[column]) for row, column in zip(rows, columns, strict=True)]


def test_a_quiet_market_breaks_no_rule():
    panel = Panel(**market())
    known = usual(panel)
    for rule in (*ALONE.values(), rules.spike, *dict(LEVELS).values(), rules.action_contradicted, *REMARKS.values()):
        assert not rule(panel, known).to_numpy().any(), rule.__name__


def test_every_rule_that_is_asked_stands_in_the_table_with_an_outcome():
    assert {*ALONE, *dict(LEVELS), *REMARKS, "spike", "action-contradicted"} <= {*RULES.index}
    assert {*RULES["outcome"]} == {"reject", "quarantine", "accept"}
    assert RULES.index.is_unique and RULES.notna().all(axis=None)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.12, 1.5, 100.0])
def test_a_bar_off_both_neighbours_is_a_spike(factor):
    assert marked(rules.spike, scaled(market(), AT, factor)) == [(AT, "N0")]


def test_a_close_far_out_in_a_stretched_range_is_a_spike_when_the_next_open_is_back():
    table = market()
    table["close"].iloc[AT, 0] *= 1.3
    table["high"].iloc[AT, 0] = table["close"].iloc[AT, 0]
    assert marked(rules.spike, table) == [(AT, "N0")]


def test_a_crash_that_trades_its_way_down_and_up_is_no_spike():
    table = market()
    fall = table["close"].iloc[AT, 0] * 0.8
    table["close"].iloc[AT, 0] = table["low"].iloc[AT, 0] = fall
    table["open"].iloc[AT + 1, 0] = table["low"].iloc[AT + 1, 0] = (
        fall  # it opens where it closed and recovers in trade
    )
    assert marked(rules.spike, table) == []


def test_closes_alone_must_be_further_out():
    table = market()
    for field in ("open", "high", "low", "volume"):
        table[field] *= np.nan
    mild = {name: frame.copy() for name, frame in table.items()}
    mild["close"].iloc[AT, 0] *= 1.1
    table["close"].iloc[AT, 0] *= 3.1
    assert marked(rules.spike, mild) == [] and marked(rules.spike, table) == [(AT, "N0")]


def test_a_market_that_falls_as_one_is_no_fault():
    table = market()
    for name in NAMES:
        table = scaled(table, AT, 0.7, name)
    assert marked(rules.spike, table) and not marked(rules.jump, table)  # a whole session off by the same factor
    table = market()
    for name in NAMES:
        table = scaled(table, slice(AT, None), 0.7, name)
    assert marked(rules.jump, table) == []


def test_a_split_that_nobody_recorded_is_a_jump():
    assert marked(rules.jump, scaled(market(), slice(AT, None), 0.5, volume=2)) == [(AT, "N0")]


def test_news_with_volume_is_no_jump():
    table = scaled(market(), slice(AT, None), 0.6)
    table["volume"].iloc[AT, 0] *= 8
    assert marked(rules.jump, table) == []


def test_a_fall_in_the_course_of_the_day_is_no_jump():
    table = scaled(market(), slice(AT, None), 0.6)
    table["open"].iloc[AT, 0] = table["high"].iloc[AT, 0] = table["close"].iloc[AT - 1, 0]
    assert marked(rules.jump, table) == []


def test_a_recorded_split_explains_its_jump():
    table = scaled(market(), slice(AT, None), 0.5, volume=2)
    table["split"].iloc[AT, 0] = 2.0
    assert marked(rules.jump, table) == [] and marked(rules.action_contradicted, table) == []


def test_a_split_on_a_session_without_a_bar_still_explains_the_next_one():
    table = scaled(market(), slice(AT, None), 0.5, volume=2)
    table["split"].iloc[AT, 0] = 2.0
    for field in ("open", "high", "low", "close", "volume"):
        table[field].iloc[AT, 0] = np.nan
    assert marked(rules.jump, table) == []


@pytest.mark.parametrize(("kind", "value"), [("split", 2.0), ("split", 0.1), ("dividend", 8.0)])
def test_an_action_that_the_price_ignored_is_contradicted(kind, value):
    table = market()
    table[kind].iloc[AT, 0] = value
    assert marked(rules.action_contradicted, table) == [(AT, "N0")]


@pytest.mark.parametrize("factor", [100.0, 0.01, 0.75, 1.3])
def test_a_level_that_comes_and_goes_is_displaced(factor):
    table = scaled(market(), slice(AT, AT + 6), factor)
    assert marked(rules.displaced, table) == [(row, "N0") for row in range(AT, AT + 6)]


@pytest.mark.parametrize(("where", "rows"), [(slice(450, None), range(450, len(DAYS))), (slice(0, 40), range(40))])
def test_other_units_are_found_on_the_shorter_side(where, rows):
    assert marked(rules.unit_change, scaled(market(), where, 0.01)) == [(row, "N0") for row in rows]


def test_units_that_change_twice_are_found_in_the_middle():
    table = scaled(market(), slice(100, 200), 100.0)
    assert marked(rules.unit_change, table) == [(row, "N0") for row in range(100, 200)]


def test_a_bar_without_range_or_trade_or_news_is_marked():
    table = market()
    for field in ("open", "high", "low"):
        table[field].iloc[AT, 0] = table["close"].iloc[AT, 0]
    table["volume"].iloc[AT, 1] = 0
    for field in ("open", "high", "low", "close", "volume"):
        table[field].iloc[AT, 2] = table[field].iloc[AT - 1, 2]
    assert marked(rules.no_range, table) == [(AT, "N0")]
    assert marked(rules.zero_volume, table) == [(AT, "N1")]
    assert marked(rules.stale, table) == [(AT, "N2")]


def test_closes_that_stand_still_are_stale_only_where_they_never_do():
    table = market()
    table["close"].iloc[AT : AT + 6, 0] = table["close"].iloc[AT, 0]
    assert marked(rules.stale, table) == [(row, "N0") for row in range(AT + 1, AT + 6)]
    table["close"]["N0"] = table["close"]["N0"].where(np.arange(len(DAYS)) % 2 == 0).ffill()  # each close said twice
    assert marked(rules.stale, table) == []


def test_coarse_quotes_do_not_make_every_tick_a_spike():
    table = market()
    for field in ("open", "high", "low", "volume"):
        table[field] *= np.nan
    table["close"]["N0"] = 2.0
    table["close"].iloc[5::9, 0] = 2.5
    assert marked(rules.spike, table)[1:] == []  # only the first leap comes before there is a past to know it by


def test_unusual_actions_are_remarked():
    table = market()
    table["dividend"].iloc[AT, 0] = table["close"].iloc[AT - 1, 0] * 0.4
    table["split"].iloc[AT, 1:4] = [1.5, 1.0688, 0.05]
    assert marked(rules.large_dividend, table) == [(AT, "N0")]
    assert marked(rules.odd_split, table) == [(AT, "N2")]


def test_adjusted_closes_and_a_second_source_are_held_against_the_first():
    table = market()
    panel, adjusted, other = Panel(**table), table["close"].copy(), table["close"] * 1.004
    adjusted.iloc[AT:, 0] *= 1.02
    other.iloc[AT, 1] *= 1.03
    assert np.argwhere(rules.adjusted_mismatch(panel, adjusted).to_numpy()).tolist() == [[AT, 0]]
    assert np.argwhere(rules.cross_source(panel, other).to_numpy()).tolist() == [[AT, 1]]


def test_what_comes_later_changes_no_usual():
    table = market()
    early = {name: frame.iloc[:AT] for name, frame in table.items()}
    whole, part = usual(Panel(**scaled(table, slice(AT, None), 7.0))), usual(Panel(**early))
    for name in ("sigma", "traded", "range", "dollars", "unchanged"):
        pd.testing.assert_frame_equal(getattr(whole, name).iloc[:AT], getattr(part, name))
