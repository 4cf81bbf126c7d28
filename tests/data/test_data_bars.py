"Every row that goes in comes out: accepted, quarantined or rejected, each with a reason."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.data.bars import validate_bars
from mlt_lib.data.files import refused
from mlt_lib.data.planted import KINDS, plant, precision_of, scored
from mlt_lib.data.rules import RULES
from mlt_lib.data.sample import closes
from mlt_lib.data.source import BAR_COLUMNS, no_actions, no_bars
from mlt_lib.data.validate import validate_bars as handed_on
from mlt_lib.errors import DataError
from mlt_lib.market.calendar import sessions

few = settings(max_examples=15, deadline=None)


def quiet(first="2016-01-04", last="2017-12-29", names=8, seed=5) -> pd.DataFrame:
    "Bars of quiet names."
    random, days = np.random.default_rng(seed), sessions(first, last)
    path = 50 * np.exp(np.cumsum(random.normal(0, 0.012, (len(days), names)), axis=0))
    wide = pd.DataFrame(path, days.rename("session"), pd.Index([f"N{i}" for i in range(names)], name="symbol"))
    bars = wide.T.stack().rename("close").reset_index()
    half = bars["close"] * random.uniform(0.003, 0.012, len(bars))
    bars = bars.assign(open=bars["close"] - half / 2, high=bars["close"] + half, low=bars["close"] - half)
    return bars.assign(volume=random.lognormal(15, 0.3, len(bars)).round())[list(BAR_COLUMNS)]


def rules_of(found) -> list[str]:
    return sorted(found.quarantine["rule"])


def test_quiet_bars_pass_whole_and_unchanged():
    bars = quiet()
    found = validate_bars(bars)
    pd.testing.assert_frame_equal(found.bars, bars, check_dtype=False)
    assert found.quarantine.empty and found.remarks.empty and found.notes == () and found.share == 1.0 and found.enough
    assert handed_on is validate_bars


def test_the_sample_passes_wherever_it_ends():
    bars = closes().T.stack().rename("close").reset_index().reindex(columns=list(BAR_COLUMNS))
    for last in ("1990-06-29", "2008-11-28", "2022-12-28"):
        assert validate_bars(bars[bars["session"] <= last]).quarantine.empty


@st.composite
def spoilt_tables(draw):
    "Bars with anything in their cells, in any order, said twice or not."
    bars = quiet("2017-10-02", "2017-12-29", 3).astype({"session": "datetime64[us]"})
    odd = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-300, 1e300, 1e13, 37.0, 5000.0])
    for _ in range(draw(st.integers(0, 12))):
        row, column = draw(st.integers(0, len(bars) - 1)), draw(st.sampled_from(BAR_COLUMNS[2:]))
        bars.loc[row, column] = draw(odd)
    for _ in range(draw(st.integers(0, 4))):
        bars.loc[draw(st.integers(0, len(bars) - 1)), "session"] += pd.Timedelta(days=draw(st.integers(-9, 9)))
    if draw(st.booleans()):
        bars.loc[draw(st.integers(0, len(bars) - 1)), "session"] = pd.NaT
    extra = bars.iloc[draw(st.lists(st.integers(0, len(bars) - 1), max_size=4))].copy()
    if draw(st.booleans()) and len(extra):
        extra["close"] *= 1.001
    order = draw(st.randoms(use_true_random=False))
    rows = list(range(len(bars) + len(extra)))
    order.shuffle(rows)
    return pd.concat([bars, extra], ignore_index=True).iloc[rows]


@few
@given(spoilt_tables())
def test_every_row_is_accounted_for_and_what_passes_is_sound(bars):
    found = validate_bars(bars)
    # a row is accepted, or listed as itself; a bar that is missing was no row; a row said twice word for word is noted
    missing = (found.quarantine["rule"] == "missing").sum()
    repeats = sum(int(note.split()[0]) for note in found.notes if "word for word" in note)
    assert len(found.bars) + len(found.quarantine) - missing + repeats == len(bars)
    good = found.bars
    assert np.isfinite(good["close"]).all() and (good["close"] > 0).all() and (good["close"] < 1e12).all()
    assert not good.duplicated(["symbol", "session"]).any() and good["session"].notna().all()
    assert not np.isinf(good[list(BAR_COLUMNS[2:])].to_numpy()).any()
    assert (good["high"].isna() | good["low"].isna() | (good["high"] >= good["low"])).all()
    assert {*found.quarantine["rule"]} <= {*RULES.index} and found.quarantine["session"].notna().all()
    assert {*found.quarantine["outcome"]} <= {"quarantine", "reject"}
    assert 0 <= found.share <= 1 and found.coverage.between(0, 1).all()


@few
@given(spoilt_tables(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(bars, random):
    rows = list(range(len(bars)))
    random.shuffle(rows)
    one, two = validate_bars(bars.dropna(subset="session")), validate_bars(bars.iloc[rows].dropna(subset="session"))
    pd.testing.assert_frame_equal(one.bars, two.bars)
    key = ["session", "symbol", "rule"]
    assert sorted(map(tuple, one.quarantine[key].astype(str).to_numpy())) == sorted(
        map(tuple, two.quarantine[key].astype(str).to_numpy())
    )


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [("close", 0.0, "not-positive"), ("close", -3.0, "not-positive"), ("close", np.inf, "not-finite"),
     ("close", np.nan, "not-finite"), ("close", 1e12, "not-finite"), ("open", 0.0, "not-positive"),
     ("high", np.inf, "not-finite"), ("low", -1.0, "not-positive"), ("volume", -1.0, "negative-volume"),
     ("volume", np.inf, "negative-volume"), ("high", 1.0, "incoherent"), ("low", 900.0, "incoherent"),
     ("open", 900.0, "incoherent"), ("volume", 0.0, "zero-volume")],
)  # fmt: skip
def test_a_cell_that_breaks_a_rule_takes_its_bar_with_it(column, value, rule):
    bars = quiet()
    bars.loc[700, column] = value
    found = validate_bars(bars)
    assert rules_of(found) == [rule] and len(found.bars) == len(bars) - 1
    row = found.quarantine.iloc[0]
    assert (row["symbol"], row["session"]) == (bars.loc[700, "symbol"], bars.loc[700, "session"])
    assert row["outcome"] == RULES.loc[rule, "outcome"]


def test_a_bar_that_fails_twice_is_listed_once():
    bars = quiet()
    bars.loc[700, ["close", "volume"]] = [-1.0, -1.0]
    assert rules_of(validate_bars(bars)) == ["not-positive"]


def test_gaps_are_listed_and_counted():
    bars = quiet()
    found = validate_bars(bars.drop(index=[100, 101]))
    assert rules_of(found) == ["missing", "missing"] and found.share == pytest.approx(1 - 2 / len(bars))
    assert found.coverage["N0"] < 1 == found.coverage["N1"]


def test_a_name_that_ended_is_due_no_more_and_a_late_one_still_is():
    bars = quiet()
    mine = bars["symbol"] == "N0"
    ended = bars[~mine | (bars["session"] < "2017-06-01")]
    late = bars[~mine | (bars["session"] < "2017-12-20")]
    assert validate_bars(ended).quarantine.empty
    assert {*rules_of(validate_bars(late))} == {"missing"}


def test_a_floor_says_when_there_is_too_little():
    bars = quiet()
    found = validate_bars(bars.drop(index=range(1100, 1300)), coverage_share=0.98)
    assert not found.enough and "too little" in repr(found)


def test_the_closed_exchange_and_other_calendars():
    bars = quiet()
    bars.loc[5, "session"] = pd.Timestamp("2016-01-09")  # a Saturday
    assert rules_of(validate_bars(bars)) == ["missing", "not-a-session"]
    crypto = pd.DataFrame({"symbol": "BTC", "session": pd.date_range("2017-01-01", periods=60), "close": 1000.0})
    assert validate_bars(crypto, calendar=False).share == 1.0


def test_rows_out_of_order_are_sorted_with_a_note():
    bars = quiet().iloc[::-1]
    found = validate_bars(bars)
    assert (
        found.quarantine.empty and "sorted" in found.notes[0] and found.bars["session"].iloc[0] == bars["session"].min()
    )


def test_damaged_cells_are_listed_and_not_missing_as_well():
    bars = quiet()
    row = bars.loc[50]
    damaged = refused([(row["session"], row["symbol"], np.nan, "unreadable", "line 51: 'n.a.' is not a number")])
    found = validate_bars(bars.drop(index=50), damaged=damaged)
    assert rules_of(found) == ["unreadable"] and found.quarantine["outcome"].tolist() == ["reject"]


def test_a_phantom_split_is_held_back_and_its_bar_is_kept():
    bars = quiet()
    day = bars["session"].iloc[300]
    acts = pd.DataFrame({"symbol": ["N0"], "session": [day], "kind": ["split"], "value": [2.0]})
    found = validate_bars(bars, actions=acts)
    assert rules_of(found) == ["action-contradicted"] and found.actions.empty and len(found.bars) == len(bars)


def test_a_real_split_is_kept_with_all_its_bars():
    bars = quiet()
    late = (bars["symbol"] == "N0") & (bars["session"] >= bars["session"].iloc[300])
    bars.loc[late, ["open", "high", "low", "close"]] /= 4
    bars.loc[late, "volume"] *= 4
    beside = bars.assign(split=np.where(bars.index == 300, 4.0, 1.0), dividend=0.0)
    found = validate_bars(beside)
    assert found.quarantine.empty and found.actions["value"].tolist() == [4.0]
    assert rules_of(validate_bars(bars)) == ["jump"]


def test_actions_that_cannot_be_true_are_rejected():
    bars = quiet()
    day = bars["session"].iloc[300]
    rows = [["N0", day, "split", 0.0], ["N0", day, "merger", 1.0], ["N1", day, "split", 2.0], ["N1", day, "split", 3.0],
            ["N2", day, "dividend", 0.2], ["N2", day, "dividend", 0.2]]  # fmt: skip
    acts = pd.DataFrame(rows, columns=["symbol", "session", "kind", "value"])
    found = validate_bars(bars, actions=acts)
    assert rules_of(found) == ["bad-action"] * 4 and found.actions["symbol"].tolist() == ["N2"]


def test_a_second_source_is_heard():
    bars = quiet()
    other = bars[["symbol", "session", "close"]].copy()
    bars.loc[400, ["open", "high", "low", "close"]] *= 1.02  # within what a name does in two days
    assert validate_bars(bars).quarantine.empty
    assert rules_of(validate_bars(bars, other=other)) == ["cross-source"]


def test_the_sources_own_adjusted_closes_are_held_against_its_actions():
    bars = quiet()
    beside = bars.assign(adj_close=bars["close"] * np.where(bars["session"] < "2017-03-01", 0.9, 1.0))
    found = validate_bars(beside)
    assert {*rules_of(found)} == {"adjusted-mismatch"} and len(found.quarantine) == 8


def test_one_new_session_is_judged_beside_what_came_before():
    bars = quiet()
    last = bars["session"] == bars["session"].max()
    today, before = bars[last].copy(), bars[~last]
    today.loc[today["symbol"] == "N3", ["open", "high", "low", "close"]] *= 0.5
    assert validate_bars(today).quarantine.empty
    found = validate_bars(today, context=before)
    assert rules_of(found) == ["jump"] and len(found.bars) == 7 and found.share == pytest.approx(7 / 8)


def test_nothing_in_nothing_out():
    found = validate_bars(no_bars(), no_actions())
    assert found.bars.empty and found.quarantine.empty and found.share == 0.0 and "0 bars" in repr(found)
    wrong = quiet().head(3).assign(close=-1.0)
    assert rules_of(validate_bars(wrong)) == ["not-positive"] * 3


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda b: b.drop(columns="symbol"), "no column 'symbol'"), (lambda b: b.assign(close="dear"), "no number"),
     (lambda b: b.assign(symbol=7), "row 1 has the symbol"), (lambda b: b.assign(symbol=" "), "name each row"),
     (lambda b: b.assign(session=b["session"].dt.tz_localize("UTC")), "naive dates")],
)  # fmt: skip
def test_a_table_of_another_shape_is_one_clear_line(change, words):
    with pytest.raises(DataError, match=words):
        validate_bars(change(quiet().head(5)))


def test_a_person_can_look_at_it():
    bars = quiet()
    bars.loc[400, "close"] = 0
    shown = validate_bars(bars)._repr_html_()
    assert "not-positive" in shown and "accepted" in shown


def test_faults_planted_with_a_seed_are_the_same_again_and_the_loud_ones_are_found():
    clean = validate_bars(quiet("2012-01-03", "2017-12-29", 10))
    one, two = (plant(clean.bars, clean.actions, seed=4, each=2) for _ in range(2))
    pd.testing.assert_frame_equal(one.bars, two.bars)
    truth, rows = scored(one, validate_bars(one.bars, one.actions), clean)
    quiet_kinds = {"whole bar 5 % off", "close 10 % off, range stretched", "dividend of 3 % that never was"}
    loud = truth[~truth["kind"].isin(quiet_kinds)]
    assert {*truth["kind"]} == {*KINDS} and loud["found"].all() and precision_of(rows) > 0.9


def test_too_few_bars_to_plant_in_is_said():
    clean = quiet("2017-10-02", "2017-12-29", 3)
    with pytest.raises(DataError, match="faults need as many stretches"):
        plant(clean, no_actions(), seed=1)
