"Fitted models as data: the same to the bit, on every kind, and nothing else is read."

import contextlib
import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import index_of, linear_panel

from mlt_lib.errors import DataError
from mlt_lib.models.baselines import RegressedPCA
from mlt_lib.models.boosted_beta import BoostedBeta
from mlt_lib.models.ipca import IPCA
from mlt_lib.models.ptree import PTree
from mlt_lib.models.saved import FORMAT, MODELS, from_bytes, to_bytes
from mlt_lib.models.sort_factor import GBRTSortFactor
from mlt_lib.models.tree_instruments import TreeInstrumentIPCA

FITTED = {
    "IPCA": IPCA(2, intercept=True, ridge=0.01),
    "RegressedPCA": RegressedPCA(2),
    "BoostedBeta": BoostedBeta(2, n_rounds=5),
    "TreeInstrumentIPCA": TreeInstrumentIPCA(1, n_trees=4),
    "GBRTSortFactor": GBRTSortFactor(n_trees=20),
}


@pytest.fixture(scope="module")
def panel():
    Z, r, *_ = linear_panel(dates=40, names=30)
    return Z, r


def test_every_kind_is_tested():
    assert set(FITTED) | {"PTree"} == set(MODELS)


@pytest.mark.parametrize("kind", FITTED)
def test_a_model_comes_back_to_the_bit(kind, panel):
    Z, r = panel
    model = FITTED[kind].fit(Z, r)
    again = from_bytes(to_bytes(model))
    assert np.array_equal(np.asarray(again.predict(Z)), np.asarray(model.predict(Z)))
    assert {k: np.asarray(v).tolist() for k, v in again.get_params(deep=False).items()} == {
        k: np.asarray(v).tolist() for k, v in model.get_params(deep=False).items()
    }
    assert vars(again).keys() == vars(model).keys() and to_bytes(again) == to_bytes(model)
    if hasattr(model, "factors_"):
        pd.testing.assert_frame_equal(again.factors_, model.factors_, check_freq=False)


def test_a_tree_of_portfolios_comes_back():
    rng, index = np.random.default_rng(0), index_of(24, 160)
    Z = pd.DataFrame(rng.uniform(-1, 1, (len(index), 3)), index, list("abc"))
    model = PTree(4).fit(Z, 0.02 * Z["a"] + rng.normal(0, 0.05, len(index)))
    again = from_bytes(to_bytes(model))
    pd.testing.assert_frame_equal(again.splits_, model.splits_)
    assert again.portfolio(Z).equals(model.portfolio(Z)) and np.array_equal(again.predict(Z), model.predict(Z))


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_dates_keep_their_zone(zone):
    Z, r, *_ = linear_panel(dates=12, names=8)
    dates = Z.index.levels[0].tz_localize(zone) if zone else Z.index.levels[0]
    Z.index = r.index = Z.index.set_levels(dates, level=0)
    model = IPCA(1).fit(Z, r)
    again = from_bytes(to_bytes(model))
    assert again.factors_.index.equals(model.factors_.index) and again.factors_.index.tz == model.factors_.index.tz


def test_a_model_read_goes_on_learning(panel):
    Z, r = panel
    early = Z.index.get_level_values(0) < Z.index.levels[0][30]
    one = IPCA(2).fit(Z[early], r[early])
    two = from_bytes(to_bytes(one))
    assert one.partial_fit(Z[~early], r[~early]).gamma_.equals(two.partial_fit(Z[~early], r[~early]).gamma_)


def archive(told, **arrays) -> bytes:
    out = io.BytesIO()
    np.savez(out, model=np.frombuffer(json.dumps(told).encode(), dtype=np.uint8), **arrays)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no saved model"),
        (b"\\x80\\x04cos\\nsystem\\n", "no saved model"),
        (archive({"format": FORMAT + 1, "model": {}}), "reads up to"),
        (archive({"format": FORMAT, "model": {"kind": "Popen", "settings": {}, "fitted": {}}}), "'Popen'"),
        (
            archive({"format": FORMAT, "model": {"kind": "IPCA", "settings": {"wrong": 1}, "fitted": {}}}),
            "no saved model",
        ),
        (
            archive({"format": FORMAT, "model": {"kind": "IPCA", "settings": {}, "fitted": {"a": {"code": "x"}}}}),
            "'code'",
        ),
        (archive([]), "no saved model"),
    ],
)
def test_what_is_no_model_is_refused(data, message):
    with pytest.raises(DataError, match=message):
        from_bytes(data)


def test_objects_in_an_archive_are_never_unpickled():
    out = io.BytesIO()
    np.savez(out, model=np.array([print], dtype=object))
    with pytest.raises(DataError, match="no saved model"):
        from_bytes(out.getvalue())


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 3000), flip=st.integers(0, 255))
def test_damaged_bytes_never_do_worse_than_an_error(cut, flip):
    Z, r, *_ = linear_panel(dates=8, names=6)
    data = bytearray(to_bytes(IPCA(1).fit(Z, r)))
    data[cut % len(data)] ^= flip
    for broken in (bytes(data), bytes(data[: cut % len(data)])):
        with contextlib.suppress(DataError):
            from_bytes(broken)


def test_what_cannot_be_kept_is_said(panel):
    from sklearn.linear_model import Ridge

    with pytest.raises(DataError, match="Ridge: can't be kept"):
        to_bytes(Ridge())
    model = IPCA(1).fit(*panel)
    model.extra_ = object()
    with pytest.raises(DataError, match="holds a object"):
        to_bytes(model)
