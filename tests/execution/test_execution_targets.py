"Decided weights come back as they were, all of them or only the newest."

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from mlt_lib.execution.decisions import Decided, record_history
from mlt_lib.execution.targets import targets_of
from mlt_lib.store.database import open_database

WANTED = pd.DataFrame(
    np.random.default_rng(7).dirichlet(np.ones(3), size=6),
    pd.date_range("2022-11-16", periods=6, freq="7D"),
    ["KO", "PEP", "XOM"],
)


@pytest.fixture
def engine(tmp_path):
    "A database with six decisions of one book and one of another."
    engine = open_database(f"sqlite:///{tmp_path}/desk.db")
    record_history(engine, [decided("demo", day) for day in WANTED.index])
    record_history(engine, [decided("other", WANTED.index[-1] + pd.Timedelta(days=7), WANTED.index[-1])])
    yield engine
    engine.dispose()


def decided(namespace: str, session: pd.Timestamp, row: pd.Timestamp | None = None) -> Decided:
    "A decision of the past without forecast or signals, with the weights of `row`."
    weights, close = WANTED.loc[row or session], datetime(2022, 12, 28, 21, tzinfo=UTC)
    nothing = (pd.Series(dtype=float), pd.DataFrame(index=WANTED.columns))
    return Decided(namespace, "ensemble", session.date(), weights, *nothing, close, "d", "s", origin="history")


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> bool:
    "Equal to the bit, on the same sessions and symbols."
    return list(found.index) == list(wanted.index) and found.columns.equals(wanted.columns) and found.equals(wanted)


def test_all_come_back_as_they_were(engine):
    assert same(targets_of(engine, "demo", "ensemble"), WANTED)


@pytest.mark.parametrize("last", [1, 2, 6, 9])
def test_the_newest_are_the_end_of_all(engine, last):
    assert same(targets_of(engine, "demo", "ensemble", last=last), WANTED.iloc[-last:])


def test_the_newest_before_a_session(engine):
    before = WANTED.index[4].date()
    assert same(targets_of(engine, "demo", "ensemble", before=before, last=2), WANTED.iloc[2:4])
    assert same(
        targets_of(engine, "demo", "ensemble", before=before, since=WANTED.index[3].date(), last=2), WANTED[3:4]
    )
    assert targets_of(engine, "demo", "ensemble", before=WANTED.index[0].date(), last=2).empty


def test_a_history_is_written_once(engine):
    assert record_history(engine, [decided("demo", day) for day in WANTED.index]) == 0
    assert same(targets_of(engine, "demo", "ensemble"), WANTED)
