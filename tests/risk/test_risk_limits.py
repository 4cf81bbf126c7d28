"Lights only worsen as a use grows, what can't be measured is a breach, and nothing is averaged away."

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError, SettingsError
from mlt_lib.risk.limits import LIGHTS, Limit, check_limits, light, verdict

BOUNDS = {"gross exposure": 1.0, "drawdown": 0.4, "largest name": 0.2}
VALUES = {"gross exposure": 0.5, "drawdown": -0.1, "largest name": 0.1}


@settings(max_examples=100, deadline=None)
@given(uses=st.tuples(st.floats(0, 5), st.floats(0, 5)), near=st.floats(0.01, 1))
def test_lights_are_monotone_in_the_use(uses, near):
    less, more = sorted(uses)
    assert LIGHTS.index(light(less, near)) <= LIGHTS.index(light(more, near))


@settings(max_examples=100, deadline=None)
@given(value=st.floats(-10, 10), bounds=st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)))
def test_a_tighter_bound_never_improves_the_light(value, bounds):
    tight, wide = sorted(bounds)
    lights = [light(Limit("x", bound).use(value)) for bound in (wide, tight)]
    assert LIGHTS.index(lights[0]) <= LIGHTS.index(lights[1])


@pytest.mark.parametrize(
    ("use", "expected"),
    [(0, "ok"), (0.7999, "ok"), (0.8, "near"), (1.0, "near"), (1.0001, "near"), (1.0002, "breach"), (9, "breach")],
)
def test_where_the_lights_change(use, expected):
    assert light(use) == expected


@pytest.mark.parametrize("use", [float("nan"), float("inf")])
def test_what_is_no_number_is_a_breach(use):
    assert light(use) == "breach"


def test_the_size_counts_not_the_sign():
    assert Limit("drawdown", 0.4).use(-0.1) == Limit("drawdown", 0.4).use(0.1) == 0.25


def test_a_limit_is_frozen():
    with pytest.raises(AttributeError):
        Limit("x", 1.0).bound = 2.0


@pytest.mark.parametrize("bound", [0, -0.1, float("nan"), float("inf")])
def test_a_bound_that_bounds_nothing_is_refused_by_name(bound):
    with pytest.raises(SettingsError, match="'drawdown'.*above 0"):
        Limit("drawdown", bound)
    with pytest.raises(SettingsError, match="'drawdown'"):
        check_limits(BOUNDS | {"drawdown": bound}, VALUES)


@pytest.mark.parametrize("near", [0, -1, 1.1, 80, float("nan")])
def test_an_impossible_threshold_is_refused(near):
    with pytest.raises(SettingsError, match="0.8 for 80 %"):
        check_limits(BOUNDS, VALUES, near=near)


def test_the_table():
    table = check_limits(BOUNDS, VALUES)
    assert table.index.name == "limit" and table.index.tolist() == list(BOUNDS)
    assert table.columns.tolist() == ["value", "bound", "use", "light"]
    assert table["use"].tolist() == [0.5, 0.25, 0.5]
    assert table["value"].tolist() == [0.5, -0.1, 0.1]
    assert verdict(table) == "ok"


@pytest.mark.parametrize(("value", "expected"), [(-0.35, "near"), (-0.5, "breach"), (np.nan, "breach")])
def test_one_bad_light_decides(value, expected):
    table = check_limits(BOUNDS, VALUES | {"drawdown": value})
    assert table.loc["drawdown", "light"] == expected == verdict(table)


def test_an_own_threshold():
    assert verdict(check_limits(BOUNDS, VALUES, near=0.5)) == "near"


def test_a_limit_without_a_value_is_an_error():
    with pytest.raises(DataError, match="no value was measured for drawdown, largest name"):
        check_limits(BOUNDS, {"gross exposure": 0.5})


def test_a_value_without_a_limit_is_not_listed():
    assert "beta" not in check_limits(BOUNDS, VALUES | {"beta": 3.0}).index


def test_no_limits_is_no_verdict():
    with pytest.raises(SettingsError, match="none are set"):
        check_limits({}, VALUES)
