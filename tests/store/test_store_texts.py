"Texts: every version kept, each readable from when it could be known, nothing twice, nothing back in time."

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlt_lib.data.source import TEXT_COLUMNS, no_texts
from mlt_lib.errors import DataError
from mlt_lib.store import texts as room
from mlt_lib.store.texts import Written, read_texts, write_texts
from mlt_lib.store.tiers import parts

START = dt.datetime(2018, 1, 3, 15, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def page(*rows, **more) -> pd.DataFrame:
    "Texts from (item, hours after the start, title)."
    table = pd.DataFrame(
        [{"item_id": i, "published": START + h * HOUR, "title": t, "symbols": ("KO",)} | more for i, h, t in rows],
        dtype=object,
    )
    return table.reindex(columns=list(TEXT_COLUMNS)).assign(symbols=[r for r in table["symbols"]])


def titles(engine, **how) -> dict:
    read = read_texts(engine, "news", **how)
    return dict(zip(read["item_id"], read["title"], strict=True))


def test_what_goes_in_comes_out(engine):
    told = page(("1", 0, "Coke up"), body="Long.", author="Ann", url="https://x/1", raw='{"id": 1}')
    told["updated"] = START + HOUR
    assert write_texts(engine, "news", told, "newsapi") == Written(1, 0, 0)
    found = read_texts(engine, "news").iloc[0]
    assert found["symbols"] == ("KO",) and found["source"] == "newsapi" and found["raw"] == '{"id": 1}'
    assert (found["published"], found["updated"]) == (START, START + HOUR) == (found["event_time"], found["known_time"])
    assert (found["body"], found["author"], found["url"]) == ("Long.", "Ann", "https://x/1")
    assert set(TEXT_COLUMNS) <= set(found.index) and read_texts(engine, "posts").empty


def test_told_again_it_writes_nothing_whatever_the_counters_say(engine):
    first = page(("1", 0, "Coke up"), ("2", 0, "Pepsi down"))
    write_texts(engine, "posts", first, "reddit")
    again = first.assign(raw='{"ups": 99}', updated=START + 5 * HOUR)
    assert write_texts(engine, "posts", pd.concat([again, again]), "reddit") == Written(0, 0, 4)
    assert write_texts(engine, "posts", no_texts(), "reddit") == Written(0, 0, 0)


def test_the_same_id_at_another_source_or_of_another_kind_is_another_text(engine):
    told = page(("1", 0, "Coke up"))
    for kind, source in (("news", "a"), ("news", "b"), ("posts", "a")):
        assert write_texts(engine, kind, told, source).new == 1
    assert len(read_texts(engine, "news")) == 2 and len(read_texts(engine, "news", source="a")) == 1


def test_a_text_is_not_read_before_it_was_known_nor_its_correction(engine):
    told = pd.concat([page(("1", 0, "Coke up")), page(("1", 0, "Coke down")).assign(updated=START + 2 * HOUR)])
    assert write_texts(engine, "news", told, "n") == Written(1, 1, 0)
    assert titles(engine, as_of=START - HOUR) == {}
    assert titles(engine, as_of=START + HOUR) == {"1": "Coke up"}
    assert titles(engine, as_of=START + 2 * HOUR) == {"1": "Coke down"} == titles(engine)
    assert write_texts(engine, "news", told, "n") == Written(0, 0, 2)


def test_a_silent_rewrite_is_known_from_when_it_was_seen(engine):
    write_texts(engine, "news", page(("1", 0, "Coke up")), "n")
    between = dt.datetime.now(dt.UTC)
    for claim in (pd.NaT, START + HOUR):
        told = page(("1", 0, f"Coke down {claim}")).assign(updated=claim)
        assert write_texts(engine, "news", told, "n").restated == 1
    assert titles(engine, as_of=between) == {"1": "Coke up"} == titles(engine, recorded_by=between)
    assert titles(engine)["1"].startswith("Coke down 2018")
    assert read_texts(engine, "news", versions=True)["known_time"].is_monotonic_increasing


def test_an_update_after_our_last_look_is_believed(engine):
    write_texts(engine, "news", page(("1", 0, "Coke up")), "n")
    later = dt.datetime.now(dt.UTC) + HOUR
    write_texts(engine, "news", page(("1", 0, "Coke down")).assign(updated=later), "n")
    assert (
        titles(engine, as_of=later - HOUR / 2) == {"1": "Coke up"} and titles(engine, as_of=later)["1"] == "Coke down"
    )


def test_a_clock_set_back_hides_nothing(engine, monkeypatch):
    write_texts(engine, "news", page(("1", 0, "Coke up")), "n")
    earlier = SimpleNamespace(
        datetime=SimpleNamespace(now=lambda zone: START - HOUR), timedelta=dt.timedelta, UTC=dt.UTC
    )
    monkeypatch.setattr(room, "dt", earlier)
    write_texts(engine, "news", page(("1", 0, "Coke down")), "n")
    assert titles(engine) == {"1": "Coke down"}


def test_symbols_are_found_whole_and_a_text_keeps_its_versions_together(engine):
    for name, about in (("1", ("KO", "PEP")), ("2", ("KOS",)), ("3", ("K%",)), ("4", ()), ("5", ("ko",))):
        write_texts(engine, "news", page((name, 0, f"text {name}"), symbols=about), "n")
    assert set(titles(engine, symbols=["KO"])) == {"1"} and set(titles(engine, symbols=["K%"])) == {"3"}
    assert set(titles(engine, symbols=["PEP", "KOS"])) == {"1", "2"} and titles(engine, symbols=[]) == {}
    assert set(titles(engine, symbols=[*map(str, range(60)), "KOS"])) == {"2"}
    write_texts(engine, "news", page(("1", 0, "text 1"), symbols=("PEP",)), "n")
    assert "1" not in titles(engine, symbols=["KO"])
    assert len(read_texts(engine, "news", symbols=["KO"], versions=True)) == 2


def test_since_is_of_publication(engine):
    write_texts(engine, "news", page(("1", 0, "a"), ("2", 5, "b")), "n")
    assert set(titles(engine, since=START + HOUR)) == {"2"}


def test_texts_of_any_year_find_a_place(engine):
    years = (1970, 2018, 2018, 2099, 2199)
    told = page(*((str(n), 0, f"text {n}") for n in range(len(years))))
    told["published"] = [START.replace(year=year) for year in years]
    assert write_texts(engine, "news", told, "n").new == len(years)
    assert read_texts(engine, "news")["published"].dt.year.tolist() == list(years)
    with engine.connect() as connection:
        assert len(parts(connection, "news")) == {"sqlite": 0}.get(engine.dialect.name, 4)  # and not all months between


def test_what_no_database_takes_is_replaced(engine):
    told = page(
        ("\x001", 0, "half \ud83d and \x00 zero"), body="\udc00", symbols=("K\x00O", "", "KO", "KO"), raw="\x00"
    )
    write_texts(engine, "news", told, "n")
    found = read_texts(engine, "news").iloc[0]
    assert found["title"] == "half ? and \ufffd zero" and found["symbols"] == ("KO", "K\ufffdO")
    assert write_texts(engine, "news", told, "n").unchanged == 1


@pytest.mark.parametrize(
    "change, told",
    [
        ({"item_id": None}, "one has no item_id"),
        ({"published": pd.NaT}, "text 1 of n has no time of publication"),
        ({"published": dt.datetime(2018, 1, 3)}, "a time of our age in UTC is needed"),
        ({"published": "0001-01-01T00:00Z"}, "text 1 of n: published is '0001-01-01T00:00Z'"),
        ({"published": "2300-01-01T00:00Z"}, "a time of our age"),
        ({"published": "yesterday"}, "text 1 of n: published is 'yesterday'"),
        ({"updated": "2018-01-03 10:00"}, "text 1 of n: updated"),
        ({"symbols": "KO"}, "text 1 of n: symbols is 'KO'; a tuple"),
        ({"symbols": None}, "text 1 of n: symbols is None"),
    ],
)
def test_what_cannot_be_stored_is_one_line_and_nothing_is_written(engine, change, told):
    rows = pd.concat([page(("0", 0, "fine")), page(("1", 0, "Coke")).astype(object).assign(**change)])
    with pytest.raises(DataError) as caught:
        write_texts(engine, "news", rows, "n")
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert read_texts(engine, "news").empty


def test_wrong_kinds_and_tables_are_refused(engine):
    with pytest.raises(DataError, match="kind 'blogs': there are news and posts"):
        read_texts(engine, "blogs")
    with pytest.raises(DataError, match="without item_id, published"):
        write_texts(engine, "news", page(("1", 0, "x")).drop(columns=["item_id", "published"]), "n")


def test_two_writers_of_one_source_double_nothing(engine):
    told = page(*((str(n), n, f"text {n}") for n in range(40)))
    with ThreadPoolExecutor(4) as pool:
        wrote = list(pool.map(lambda _: write_texts(engine, "news", told, "n").new, range(6)))
    assert sorted(wrote) == [0, 0, 0, 0, 0, 40] and len(read_texts(engine, "news", versions=True)) == 40


STEP = st.tuples(
    st.sampled_from("ab"), st.integers(0, 3), st.sampled_from(["up", "down", "flat"]), st.integers(0, 4) | st.none()
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pages=st.lists(st.lists(STEP, min_size=1, max_size=3), min_size=1, max_size=5))
def test_any_course_of_writes_reads_as_it_was_told_and_repeats_nothing(engine, pages):
    source = f"s{id(pages)}{len(read_texts(engine, 'news', versions=True))}"
    seen = []  # (moment, what the desk read then about each hour)
    hours = [START + h * HOUR for h in (0, 2)]
    for rows in pages:
        told = pd.concat(
            [page((i, h, t)).assign(updated=pd.NaT if u is None else START + u * HOUR) for i, h, t, u in rows]
        )
        write_texts(engine, "news", told, source)
        final = {}
        for i, h, t, _ in sorted(rows, key=lambda r: (r[0], max(r[1], r[1] if r[3] is None else r[3]))):
            final[i] = (t, START + h * HOUR)
        now = read_texts(engine, "news", source).set_index("item_id")
        for item, (title, published) in final.items():  # what the source says now is what is read now
            assert (now.loc[item, "title"], now.loc[item, "event_time"]) == (title, published)
        assert write_texts(engine, "news", told, source) == Written(0, 0, len(told))
        moment = read_texts(engine, "news", source, versions=True)["recorded_time"].max().to_pydatetime()
        seen.append((moment, [titles(engine, source=source, as_of=at, recorded_by=moment) for at in hours]))
    for moment, then in seen:  # what was read then can be read again
        assert [titles(engine, source=source, as_of=at, recorded_by=moment) for at in hours] == then
    whole = read_texts(engine, "news", source, versions=True)
    assert (whole["known_time"] >= whole["event_time"]).all() and not whole.duplicated(
        ["item_id", "recorded_time"]
    ).any()
