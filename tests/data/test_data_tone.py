"The tone around a share: what a plain loop gives, never from the future, no louder for copies, floods and missing names."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlt_lib.data.sentiment import VADER, VADER_FINANCE, ClassifierScorer, text_key
from mlt_lib.data.tone import Voices, first_told, readings, tone, tone_view
from mlt_lib.errors import DataError, StoreError
from mlt_lib.market.calendar import decision_time, sessions
from mlt_lib.store.database import open_database
from mlt_lib.store.texts import read_texts, write_texts

QUICK = settings(max_examples=30, deadline=None)
DAYS = sessions("2018-01-02", "2018-01-12")
NAMES = ["KO", "PEP", "XOM"]
SAID = ["beats estimates", "plunges", "meets", "record high after strong growth", "https://t.co/x", "fraud", "is up"]
START = pd.Timestamp("2018-01-01", tz="UTC")
COLUMNS = ["item_id", "source", "symbols", "event_time", "known_time", "author", "title", "body"]


def frame(rows) -> pd.DataFrame:
    "Texts from tuples in the order of COLUMNS, times as hours from the start."
    table = pd.DataFrame(rows, columns=COLUMNS).astype(object)
    for name in ("event_time", "known_time"):
        table[name] = pd.DatetimeIndex([START + pd.Timedelta(hours=h) for h in table[name]], tz="UTC").as_unit("us")
    return table


@st.composite
def posts(draw, most=12, authors=("ann", "bob", None), sources=("reddit", "news"), prefix="") -> pd.DataFrame:
    "Some texts; an item may come in several versions."
    rows = []
    for n in range(draw(st.integers(0, most))):
        event = draw(st.integers(0, 300))
        known = event + draw(st.sampled_from([0, 0, 1, 30]))
        who = (draw(st.sampled_from(sources)), draw(st.sampled_from(authors)))
        about = tuple(draw(st.lists(st.sampled_from(NAMES), max_size=2)))
        said = f"{draw(st.integers(0, 4))} {draw(st.sampled_from(SAID))}"
        name = f"{prefix}{draw(st.integers(0, n))}"  # at times that of an earlier one: a version of it
        rows.append((name, who[0], about, event, known, who[1], said, None))
    return frame(rows)


def loop(texts, voices) -> pd.DataFrame:
    "The definition, cell by cell."
    texts = texts.sort_values("known_time", kind="stable").reset_index(drop=True)
    scores = VADER_FINANCE.score(texts["title"])
    out = pd.DataFrame(np.nan, index=DAYS, columns=NAMES)
    for symbol in NAMES:
        about = [r for r in texts.index if symbol in texts["symbols"][r] and not np.isnan(scores[r])]
        told = {}  # key -> (last time, leader); a run of copies
        original = []
        same = lambda r: (texts["source"][r], texts["item_id"][r])  # noqa: E731
        for r in sorted(about, key=lambda r: (texts["known_time"][r], *same(r))):
            key, when = text_key(texts["title"][r]), texts["known_time"][r]
            before, leader = told.get(key, (None, None))
            if before is None or when - before > pd.Timedelta(days=voices.copy_days):
                leader = same(r)
            told[key] = (when, leader)
            if leader == same(r):
                original.append(r)
        for day in DAYS:
            now, by_author = decision_time(day), {}
            for r in original:
                later = [texts["known_time"][q] for q in texts.index if q > r and same(q) == same(r)]
                age = (now - texts["event_time"][r]) / pd.Timedelta(days=1)
                if texts["known_time"][r] > now or (later and min(later) <= now) or age > voices.window_days:
                    continue
                w = 0.5 ** (max(age, 0) / voices.half_life_days) / len(set(texts["symbols"][r]))
                who = (texts["source"][r], texts["author"][r])
                a, b = by_author.get(who, (0, 0))
                by_author[who] = (a + w, b + w * scores[r])
            by_source = {}
            for (source, _), (w, t) in by_author.items():
                f = min(1, voices.author_cap / w)
                a, b = by_source.get(source, (0, 0))
                by_source[source] = (a + f * w, b + f * t)
            if by_source:
                total = [
                    (min(1, voices.source_cap / w) * w, min(1, voices.source_cap / w) * t)
                    for w, t in by_source.values()
                ]
                out.loc[day, symbol] = sum(t for _, t in total) / (voices.prior + sum(w for w, _ in total))
    return out


@QUICK
@given(texts=posts(), voices=st.sampled_from([Voices(), Voices(2, 3, 0.5, 0.8, 1, 1)]))
def test_it_is_what_the_definition_says(texts, voices):
    found = tone(texts, DAYS, NAMES, voices=voices)
    np.testing.assert_allclose(found.value.to_numpy(), loop(texts, voices).to_numpy(), atol=1e-12)
    assert found.value.abs().max().max() < 1 or found.value.isna().all().all()
    assert (found.value.isna() == (found.voices == 0)).all().all()


@QUICK
@given(texts=posts(), later=posts(prefix="z"), cut=st.integers(0, len(DAYS) - 1))
def test_what_is_known_later_changes_nothing_before(texts, later, cut):
    now = decision_time(DAYS[cut])
    known = texts[texts["known_time"] <= now]
    future = pd.concat([texts, later])
    future = future[future["known_time"] > now]
    whole = tone(pd.concat([known, future]), DAYS, NAMES).value
    live = tone(known, DAYS[[cut]], NAMES).value
    pd.testing.assert_frame_equal(whole.iloc[[cut]], live, rtol=0, atol=1e-15)


@QUICK
@given(texts=posts(authors=("bob", None)), flood=posts(most=40, authors=("ann",), sources=("reddit",), prefix="f"))
def test_one_author_moves_it_by_no_more_than_the_bound(texts, flood):
    mixed = tone(pd.concat([texts, flood]), DAYS, NAMES).value.fillna(0)
    assert (mixed - tone(texts, DAYS, NAMES).value.fillna(0)).abs().max().max() <= Voices().author_bound + 1e-12


@QUICK
@given(texts=posts(sources=("news",)), flood=posts(most=40, authors=tuple("abcdefgh"), sources=("reddit",), prefix="f"))
def test_one_source_moves_it_by_no_more_than_the_bound(texts, flood):
    voices = Voices(source_cap=1.5)
    mixed = tone(pd.concat([texts, flood]), DAYS, NAMES, voices=voices).value.fillna(0)
    alone = tone(texts, DAYS, NAMES, voices=voices).value.fillna(0)
    assert (mixed - alone).abs().max().max() <= voices.source_bound + 1e-12


def test_a_flood_of_different_texts_reaches_its_bound_and_stops_there():
    glad = [
        (f"g{n}", "reddit", ("KO",), 20, 20, "Ann " if n % 2 else "ann", f"{n} soars, surges, beats", None)
        for n in range(300)
    ]
    sad = [
        (i, s, w, e, k, a, t.replace("soars, surges, beats", "plunges, fraud, crash"), b)
        for i, s, w, e, k, a, t, b in glad
    ]
    day = DAYS[[0]]
    high, low = (tone(frame(rows), day, ["KO"]).value.iloc[0, 0] for rows in (glad, sad))
    assert 0.3 < high - low <= Voices().author_bound
    nameless = [(f"h{n}", "reddit", ("KO",), 20, 20, None, f"{n} soars, surges, beats", None) for n in range(300)]
    assert tone(frame(nameless), day, ["KO"]).value.iloc[0, 0] == pytest.approx(high, abs=1e-3)


@QUICK
@given(texts=posts())
def test_copies_count_once(texts):
    copies = texts.assign(
        item_id="copy" + texts["item_id"].astype(str),
        author=[f"other{n}" for n in range(len(texts))],
        title="RT @x: " + texts["title"].astype(object) + " https://t.co/abc",
        known_time=texts["known_time"] + pd.Timedelta(minutes=1),
        event_time=texts["event_time"] + pd.Timedelta(minutes=1),
    ).drop_duplicates("item_id", keep="last")
    whole = pd.concat([texts, copies])
    heard = first_told(readings(whole))
    assert not heard[heard["key"] != ""]["item_id"].astype(str).str.startswith("copy").any()
    pd.testing.assert_frame_equal(tone(whole, DAYS, NAMES).value, tone(texts, DAYS, NAMES).value, rtol=0, atol=1e-15)


def test_a_copy_after_the_term_is_news_again_and_a_new_version_is_no_copy():
    rows = [("1", "n", ("KO",), 0, 0, "a", "Coke beats", None), ("2", "n", ("KO",), 20, 20, "b", "Coke beats", None)]
    assert first_told(readings(frame(rows)), 0.5)["item_id"].tolist() == ["1", "2"]
    assert first_told(readings(frame(rows)), 1.0)["item_id"].tolist() == ["1"]
    again = [*rows, ("1", "n", ("KO",), 0, 40, "a", "Coke beats", None)]
    assert first_told(readings(frame(again)), 1.0)["item_id"].tolist() == ["1", "1"]


def test_an_update_replaces_a_text_from_when_it_could_be_known():
    rows = [
        ("1", "n", ("KO",), 40, 40, "a", "Coke beats", None),
        ("1", "n", ("KO",), 40, 60, "a", "Coke plunges", None),
    ]
    found = tone(frame(rows), DAYS[:2], ["KO"]).value["KO"]  # the closes are at hours 45 and 69
    assert found.iloc[0] > 0 > found.iloc[1]


def test_what_is_missing_is_said():
    with pytest.raises(DataError, match="texts: without known_time, author"):
        tone(frame([("1", "n", ("KO",), 0, 0, "a", "x", None)]).drop(columns=["known_time", "author"]), DAYS, NAMES)
    blank = frame([("1", "n", ("KO",), 0, 0, "a", "x", None)])
    blank.loc[0, "known_time"] = pd.NaT
    with pytest.raises(DataError, match="known_time must be a time in UTC in every row"):
        tone(blank, DAYS, NAMES)
    with pytest.raises(DataError, match="voices: prior = 0"):
        Voices(prior=0)
    with pytest.raises(DataError, match="not a session"):
        tone(blank, pd.DatetimeIndex(["2018-01-06"]), NAMES)


def test_without_texts_or_words_or_days_there_is_no_tone():
    for texts in (
        frame([]),
        frame([("1", "n", ("KO",), 0, 0, "a", None, None), ("2", "n", (), 0, 0, "a", "up", None)]),
    ):
        found = tone(texts, DAYS, NAMES)
        assert found.value.isna().all().all() and (found.voices == 0).all().all() and found.note.startswith("weak")
    assert tone(frame([("1", "n", ("KO",), 0, 0, "a", "up", None)]), DAYS[:0], NAMES).value.shape == (0, 3)


def test_it_carries_its_scorers_name_and_note():
    scorer = ClassifierScorer(
        lambda texts: np.tile([0.0, 0.0, 1.0], (len(texts), 1)), "bert", "v7", "measured elsewhere"
    )
    found = tone(frame([("1", "n", ("KO",), 0, 0, "a", "up", None)]), DAYS, NAMES, scorer)
    assert (found.name, found.version, found.note) == ("tone_bert", "v7", "measured elsewhere")
    assert tone(frame([]), DAYS, NAMES).name == "tone_vader_finance"


def test_stored_and_read_it_is_what_was_computed_and_another_scorer_is_another_feature(tmp_path):
    from mlt_lib.store.features import materialise, read_features

    engine = open_database(f"sqlite:///{tmp_path}/desk.db")
    found = tone(frame([("1", "n", ("KO",), 20, 20, "a", "Coke beats", None)]), DAYS, NAMES)
    view = tone_view()
    assert materialise(engine, [view], {"tone": found.value}, "n").rows == int(found.value.notna().sum().sum()) > 3
    assert materialise(engine, [view], {"tone": found.value}, "n").rows == 0
    asked = pd.MultiIndex.from_product([DAYS, NAMES], names=["date", "symbol"])
    read = read_features(engine, [view], asked, "n", within=pd.Timedelta(0))["weak_tone"]
    np.testing.assert_array_equal(read.to_numpy(), found.value.to_numpy().ravel())
    for other in (tone_view(VADER), tone_view(voices=Voices(prior=5))):
        assert other.fingerprint != view.fingerprint
        with pytest.raises(StoreError, match="raise the view's version to 2"):
            materialise(engine, [other], {"tone": found.value}, "n")
    engine.dispose()


def test_what_the_store_hands_out_is_what_the_tone_takes(tmp_path):
    rows = [
        ("1", "n", ("KO",), 20, 20, "a", "Coke beats", None),
        ("1", "n", ("KO", "PEP"), 20, 60, "a", "Coke plunges", None),
        ("2", "n", ("KO",), 30, 30, None, "KO at record high", "Or so."),
    ]
    told = frame(rows)
    engine = open_database(f"sqlite:///{tmp_path}/desk.db")
    write_texts(engine, "news", told.assign(published=told["event_time"], updated=told["known_time"]), "n")
    pd.testing.assert_frame_equal(
        tone(read_texts(engine, "news", versions=True), DAYS, NAMES).value, tone(told, DAYS, NAMES).value
    )
    engine.dispose()
