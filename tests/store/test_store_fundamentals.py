"Accounts: every version is kept once, and a decision sees the one of its day."

import numpy as np
import pandas as pd
import pytest

from mlt_lib.errors import DataError
from mlt_lib.market.accounting import accounting_facts, known_accounts
from mlt_lib.store.fundamentals import read_accounts, write_accounts


def filings(*rows, symbol="AAA"):
    "Assets: period end, filed, value."
    table = pd.DataFrame(rows, columns=["period_end", "filed", "total_assets"]).assign(symbol=symbol)
    return accounting_facts(
        table.assign(**{c: pd.to_datetime(table[c]) for c in ("period_end", "filed")}), ["total_assets"]
    )


FIRST, SECOND = ("2015-12-31", "2016-02-25", 100.0), ("2016-12-31", "2017-02-24", 150.0)
RESTATED = ("2015-12-31", "2017-02-24", 96.0)


def assets(engine, day, name="total_assets"):
    found = known_accounts(read_accounts(engine, "files"), pd.DatetimeIndex([day]), ["AAA"], ["total_assets"])
    return found[name].iloc[0, 0]


def test_versions_come_back_as_they_were_told(engine):
    facts = filings(FIRST, SECOND, RESTATED)
    assert write_accounts(engine, facts, "files").new == 2  # cells; the third row restates one
    back = read_accounts(engine, "files")
    order = ["symbol", "item", "period_end", "known_time"]
    left, right = (f[[*order, "value", "event_time"]].sort_values(order, ignore_index=True) for f in (back, facts))
    pd.testing.assert_frame_equal(left, right, check_dtype=False)


@pytest.mark.parametrize("parts", [1, 3])
def test_the_same_again_writes_nothing_at_once_or_in_parts(engine, parts):
    rows = [FIRST, SECOND, RESTATED]
    for part in np.array_split(np.arange(3), parts):
        write_accounts(engine, filings(*(rows[n] for n in part)), "files")
    assert write_accounts(engine, filings(*rows), "files").unchanged == 3
    assert len(read_accounts(engine, "files")) == 3
    assert assets(engine, "2017-03-01", "total_assets_before") == 96.0
    assert assets(engine, "2017-02-23") == 100.0


def test_an_older_version_that_arrives_late_takes_its_place_and_no_other(engine):
    write_accounts(engine, filings(RESTATED, SECOND), "files")
    write_accounts(engine, filings(FIRST), "files")
    assert assets(engine, "2016-03-01") == 100.0
    assert assets(engine, "2017-03-01", "total_assets_before") == 96.0


def test_a_silent_change_is_known_from_now_on_and_stored_once(engine):
    write_accounts(engine, filings(FIRST, SECOND), "files")
    changed = filings(FIRST, (*SECOND[:2], 155.0))
    assert write_accounts(engine, changed, "files").restated == 1
    assert write_accounts(engine, changed, "files").rows == 0
    assert assets(engine, "2017-03-01") == 150.0
    back = read_accounts(engine, "files")
    late = back[back["value"] == 155.0]
    assert len(late) == 1 and (late["known_time"] == late["recorded_time"]).all()
    assert write_accounts(engine, filings(SECOND), "files").restated == 1  # and back again
    early = read_accounts(engine, "files", recorded_by=late["recorded_time"].iloc[0].to_pydatetime())
    assert len(early) == 3 and len(read_accounts(engine, "files")) == 4


def test_the_same_number_filed_again_is_no_version(engine):
    write_accounts(engine, filings(FIRST), "files")
    again = (FIRST[0], "2017-02-24", FIRST[2])
    assert write_accounts(engine, filings(FIRST, again), "files").rows == 0


def test_sources_and_items_are_kept_apart(engine):
    write_accounts(engine, filings(FIRST), "a")
    assert write_accounts(engine, filings(FIRST), "b").new == 1
    assert read_accounts(engine, "a", items=["sales"]).empty and len(read_accounts(engine, "a", ["total_assets"])) == 1
    assert write_accounts(engine, filings(FIRST).iloc[:0], "a").rows == 0


def test_what_the_table_does_not_take_is_named(engine):
    facts = filings(FIRST)
    with pytest.raises(DataError, match="'item' is missing"):
        write_accounts(engine, facts.drop(columns="item"), "a")
    with pytest.raises(DataError, match="total_assets of AAA for 2015-12-31 has no finite value"):
        write_accounts(engine, facts.assign(value=np.inf), "a")
    with pytest.raises(DataError, match="before its period ends"):
        write_accounts(engine, facts.assign(known_time=facts["event_time"] - pd.Timedelta("1D")), "a")
    with pytest.raises(DataError, match="twice"):
        write_accounts(engine, pd.concat([facts, facts]), "a")
