"""Equal weights in the best names, row by row."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlt_lib.errors import SettingsError
from mlt_lib.portfolio.sizing import equal_weights

scores = hnp.arrays(float, (4, 7), elements=st.one_of(st.floats(-3, 3), st.just(np.nan)))


@settings(max_examples=80, deadline=None)
@given(scores, st.floats(0.05, 1))
def test_the_best_are_held_and_nobody_better_is_left_out(values, share):
    held = equal_weights(pd.DataFrame(values), share).to_numpy()
    for row, weights in zip(values, held, strict=True):
        known = ~np.isnan(row)
        if not known.any():
            assert (weights == 0).all()
            continue
        chosen = weights > 0
        assert chosen.sum() == max(1, round(known.sum() * share))
        assert not (chosen & ~known).any()
        assert weights.sum() == pytest.approx(1) and len(set(weights[chosen])) == 1
        if (known & ~chosen).any():
            assert row[chosen].min() >= row[known & ~chosen].max()


def test_ties_go_to_the_first_name():
    assert equal_weights(pd.DataFrame([[1.0, 1.0, 1.0]]), 1 / 3).to_numpy().tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(SettingsError, match="share"):
        equal_weights(pd.DataFrame([[1.0]]), share)
