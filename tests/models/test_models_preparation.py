"Ranks depend on order alone, stay within their bounds, and leave what is missing missing."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError, SettingsError
from mlt_lib.models.preparation import available, prepare, rank_map

whole = st.one_of(st.none(), st.integers(-50, 50).map(float))


def table(rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list("ABCDE"), dtype=float)


tables = st.lists(st.tuples(whole, whole, whole, whole, whole), min_size=1, max_size=5).map(table)


def test_by_hand():
    mapped = rank_map(table([[1, 2, 3, 900, None], [2, 2, 5, None, None], [None, 7, None, None, None]]))
    assert mapped.iloc[0].dropna().tolist() == pytest.approx([-1 / 2, -1 / 6, 1 / 6, 1 / 2])
    assert mapped.iloc[1].dropna().tolist() == [-0.25, -0.25, 0.5]
    assert mapped.iloc[2].dropna().tolist() == [0.0]


@settings(max_examples=60, deadline=None)
@given(wide=tables)
def test_ranks_stay_in_bounds_centred_and_in_their_cells(wide):
    mapped = rank_map(wide)
    assert mapped.isna().equals(wide.isna())
    assert (mapped.abs().fillna(0) <= 0.5).all(axis=None)
    assert np.allclose(mapped.mean(axis=1).dropna(), 0)


@settings(max_examples=60, deadline=None)
@given(wide=tables)
def test_ranks_do_not_feel_monotone_maps_and_turn_with_the_sign(wide):
    mapped = rank_map(wide)
    assert rank_map(wide**3 + wide).equals(mapped)
    assert rank_map(np.exp(wide / 10)).equals(mapped)
    assert rank_map(-wide).equals(-mapped + 0.0)


@settings(max_examples=30, deadline=None)
@given(wide=tables)
def test_a_row_is_ranked_by_itself(wide):
    mapped = rank_map(wide)
    for row in range(len(wide)):
        assert rank_map(wide.iloc[[row]]).equals(mapped.iloc[[row]])


def test_other_bounds():
    mapped = rank_map(table([[1, 2, 3, 4, 5]]), low=0.0, high=1.0)
    assert mapped.iloc[0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert rank_map(table([[None, 7, None, None, None]]), low=0.0, high=1.0).iloc[0]["B"] == 0.5


def test_an_infinite_value_is_the_first_or_the_last():
    assert rank_map(table([[1, np.inf, 3, -np.inf, 2]])).iloc[0].tolist() == [-0.25, 0.5, 0.25, -0.5, 0.0]


def test_all_equal_stand_in_the_middle():
    assert (rank_map(table([[3] * 5])) == 0).all(axis=None)


def test_bounds_the_wrong_way_round_are_refused():
    with pytest.raises(SettingsError, match="low < high"):
        rank_map(table([[1, 2, 3, 4, 5]]), low=0.5, high=-0.5)


# A panel made ready


def long_panel(missing=0.2, seed=0) -> pd.DataFrame:
    rng, index = (
        np.random.default_rng(seed),
        pd.MultiIndex.from_product([range(5), list("ABCDEFG")], names=["date", "symbol"]),
    )
    raw = pd.DataFrame(rng.standard_normal((35, 2)), index, ["size", "value"])
    return raw.where(rng.random(raw.shape) >= missing)


def test_a_long_panel_is_ranked_as_a_wide_one():
    raw = long_panel()
    ready = prepare(raw)
    for name in raw.columns:
        wide = rank_map(raw[name].unstack()).fillna(0.0).stack().reindex(raw.index)
        assert np.allclose(ready.Z[name], wide)
    assert (
        (ready.Z["constant"] == 1).all()
        and ready.missing.to_dict() == raw.isna().mean().to_dict()
        and len(ready.thin) == 0
    )


def test_trees_get_ranks_from_minus_one_to_one_and_flags():
    raw = long_panel(missing=0.5)
    ready = prepare(raw, -1, 1, flag_share=0.1, constant=False)
    assert ready.Z.abs().max().max() <= 1 and list(ready.Z.columns) == [
        "size",
        "value",
        "size missing",
        "value missing",
    ]
    assert (ready.Z["size missing"] == raw["size"].isna()).all() and (ready.Z["size"][raw["size"].isna()] == 0).all()


def test_thin_dates_are_left_out_and_listed():
    raw = long_panel().drop((2, "A")).drop((2, "B"))
    ready = prepare(raw, least_names=6)
    assert list(ready.thin) == [2] and 2 not in ready.Z.index.get_level_values(0)


def test_what_cannot_be_prepared_is_said():
    raw = long_panel()
    for wrong, message in (
        (raw.reset_index(), "index of"),
        (pd.concat([raw, raw]), "once"),
        (raw.assign(constant=1.0), "'constant'"),
    ):
        with pytest.raises(DataError, match=message):
            prepare(wrong)


@settings(max_examples=20, deadline=None)
@given(lag=st.integers(0, 6), seed=st.integers(0, 99))
def test_nothing_is_available_before_its_time(lag, seed):
    raw = long_panel(seed=seed)
    moved = available(raw, {"value": lag})
    for (date, symbol), value in moved["value"].items():
        before = raw["value"].get((date - lag, symbol), np.nan)
        assert value == before or (np.isnan(value) and np.isnan(before))
    assert moved["size"].equals(raw["size"])


def test_what_has_no_lag_is_said():
    with pytest.raises(DataError, match="no characteristic 'x'"):
        available(long_panel(), {"x": 1})
    for bad in (-1, 1.5, True):
        with pytest.raises(DataError, match="whole numbers"):
            available(long_panel(), {"value": bad})
