"Blending treats silence as neutral; the forecast is Grinold's rule, row by row."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.errors import DataError, SettingsError
from mlt_lib.models.combine import blend, forecast, standard_score

DAYS = pd.bdate_range("2020-01-06", periods=2)


def table(*rows, columns=("A", "B", "C")) -> pd.DataFrame:
    return pd.DataFrame(rows, index=DAYS[: len(rows)], columns=list(columns), dtype=float)


ONE, TWO = table([0.5, 0.0, -0.5], [0.5, None, None]), table([0.5, -0.5, None], [-0.5, 0.3, None])


def test_a_blend_is_the_mean_and_silence_is_neutral():
    found = blend({"one": ONE, "two": TWO})
    assert found.iloc[0].tolist() == [0.5, -0.25, -0.25]
    assert found.iloc[1].tolist()[:2] == [0.0, 0.15] and np.isnan(found.iloc[1, 2])


def test_weights_are_relative():
    found = blend({"one": ONE, "two": TWO}, {"two": 3, "one": 1})
    assert found.iloc[0].tolist() == [0.5, -0.375, -0.125]
    assert found.equals(blend({"one": ONE, "two": TWO}, {"one": 25, "two": 75}))


def test_a_blend_of_one_is_itself():
    assert blend({"one": ONE}).equals(ONE)
    assert blend({"one": ONE, "two": TWO}, {"one": 1, "two": 0}).iloc[0].equals(ONE.iloc[0])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-0.5, 0.5), min_size=9, max_size=9), st.tuples(*[st.floats(0.01, 10)] * 3))
def test_a_blend_lies_between_its_scores(values, weights):
    scores = {name: table(values[3 * k : 3 * k + 3]) for k, name in enumerate(("x", "y", "z"))}
    found = blend(scores, dict(zip("xyz", weights, strict=True))).to_numpy()
    stacked = np.stack([score.to_numpy() for score in scores.values()])
    assert (found >= stacked.min(axis=0) - 1e-12).all() and (found <= stacked.max(axis=0) + 1e-12).all()


@pytest.mark.parametrize(
    "weights",
    [{"one": 1}, {"one": 1, "tow": 1}, {"one": 0, "two": 0}, {"one": 2, "two": -1}, {"one": np.nan, "two": 1}, {}],
)
def test_weights_that_make_no_mean_are_refused(weights):
    with pytest.raises(SettingsError, match="blend"):
        blend({"one": ONE, "two": TWO}, weights)


def test_scores_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="two and one differ"):
        blend({"one": ONE, "two": TWO.iloc[:1]})
    with pytest.raises(DataError, match="two and one differ"):
        blend({"one": ONE, "two": TWO[["B", "A", "C"]]})
    with pytest.raises(DataError, match="no score"):
        blend({})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=3), st.floats(0.1, 100), st.floats(-5, 5))
def test_a_standard_score_has_mean_0_variance_1_and_forgets_unit_and_origin(values, unit, origin):
    z = standard_score(table(values)).iloc[0]
    if min(values) == max(values):
        assert (z == 0).all()
    else:
        assert z.mean() == pytest.approx(0, abs=1e-12) and z.std(ddof=0) == pytest.approx(1)
        assert np.allclose(standard_score(table(values) * unit + origin).iloc[0], z, atol=1e-6)


def test_a_standard_score_leaves_missing_ones_out():
    z = standard_score(table([1, 3, None], [None, None, None]))
    assert z.iloc[0].tolist()[:2] == [-1, 1]
    assert z.isna().to_numpy().tolist() == [[False, False, True], [True, True, True]]


def test_a_score_too_narrow_to_scale_is_neutral_not_infinite():
    assert (standard_score(table([1e-200, 2e-200, 3e-200])) == 0).all(axis=None)


def test_an_infinite_score_is_refused_by_name():
    with pytest.raises(DataError, match="B at 2020-01-06.*infinite"):
        forecast(table([1, np.inf, 2]), table([0.1, 0.2, 0.3]))


def test_the_forecast_is_grinolds_rule():
    found = forecast(table([1, 3, None]), table([0.2, 0.4, 0.9]), ic=0.1)
    assert found.iloc[0].tolist()[:2] == pytest.approx([-0.1 * 0.2, 0.1 * 0.4]) and np.isnan(found.iloc[0, 2])


@pytest.mark.parametrize("name", [None, pd.Timestamp("2020-01-06")])
def test_one_session_equals_its_row_of_many(name):
    score, volatility = table([1, 2, 4], [3, None, 1]), table([0.2, 0.3, 0.5], [0.1, 0.2, 0.3])
    many = forecast(score, volatility)
    for row in range(2):
        one = forecast(score.iloc[row].rename(name), volatility.iloc[row].rename("another"))
        assert one.name == name and one.index.tolist() == ["A", "B", "C"]
        np.testing.assert_array_equal(one.to_numpy(), many.iloc[row].to_numpy())


def test_volatilities_may_cover_more_and_stand_in_another_order():
    found = forecast(pd.Series({"A": 1.0, "B": 3.0}), pd.Series({"Z": 9.0, "B": 0.4, "A": 0.2}), ic=0.1)
    assert found.to_dict() == pytest.approx({"A": -0.02, "B": 0.04})


def test_a_name_without_volatility_is_named():
    with pytest.raises(DataError, match="no volatility for symbols.*'B'"):
        forecast(pd.Series({"A": 1.0, "B": 3.0}), pd.Series({"A": 0.2}))
    with pytest.raises(DataError, match="no volatility for sessions"):
        forecast(table([1, 2, 3], [1, 2, 3]), table([0.1, 0.1, 0.1]))


@pytest.mark.parametrize("ic", [1.5, -2, np.nan])
def test_an_impossible_correlation_is_refused(ic):
    with pytest.raises(SettingsError, match="correlation"):
        forecast(pd.Series({"A": 1.0}), pd.Series({"A": 0.2}), ic)
