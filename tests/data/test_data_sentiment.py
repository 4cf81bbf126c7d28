"Words, scorers and their measure: bounded, repeatable, the peer's to the bit where it should be, and one line for a bad list."

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from mlt_lib.data.lexicon import _LIST, FINANCE, Lexicon, read_lexicon
from mlt_lib.data.sentiment import (
    OPENING,
    VADER,
    VADER_FINANCE,
    ClassifierScorer,
    LexiconScorer,
    best_band,
    calls,
    first_half,
    plain,
    quality,
    text_key,
)
from mlt_lib.errors import DataError, MltError

QUICK = settings(max_examples=60, deadline=None)
TEXT = st.text(max_size=400) | st.sampled_from(
    ["", " ", "$KO", "@a", "RT @a: ", "+3%", "\x00", "\ud800", "…", "not bad"]
)


@pytest.fixture
def write(tmp_path):
    "Writes a file and gives its path."

    def write(content, name="mine.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# the list


def test_no_word_of_the_list_has_two_valences():
    words = [w for entry in _LIST if " " not in entry for w in entry.split("|")]
    assert len(words) == len(set(words)) and len(words) > 200


@pytest.mark.parametrize(
    "better, worse",
    [
        ("Acme beats estimates", "Acme misses estimates"),
        ("Acme raises its full-year guidance", "Acme cuts its full-year guidance"),
        ("Acme upgraded to buy", "Acme downgraded to hold"),
        ("Acme shares +4%", "Acme shares -4%"),
        ("Acme target raised to $40", "Acme target lowered to $40"),
        ("Acme at 52-week high", "Acme at 52-week low"),
        ("Acme wins contract", "Acme did not win the contract, files for chapter 11"),
    ],
)
def test_the_trade_is_understood_where_it_is_plain(better, worse):
    scores = VADER_FINANCE.score(pd.Series([better, worse]))
    assert scores[0] > 0 > scores[1]


def test_a_phrase_stops_at_its_gap_and_at_the_ends_of_words():
    lexicon = Lexicon({"cuts ... guidance": -2.0})
    assert lexicon.pattern.search("cuts its whole year guidance") and lexicon.pattern.search("Cuts Guidance.")
    assert not lexicon.pattern.search("cuts one two three four guidance")
    assert not lexicon.pattern.search("haircuts guidance") and not lexicon.pattern.search("cuts guidances")


def test_an_entry_is_no_regular_expression():
    scorer = LexiconScorer(Lexicon({".* ... (x)": 3.0}), 0.0)
    assert scorer.score(pd.Series(["anything at all", "see .* and (x) here"])).tolist()[0] == 0


def test_a_desks_words_win_over_ours_and_change_the_version():
    ours = FINANCE.extended({"Plunges": 3.5})
    assert ours.words["plunges"] == 3.5 and ours.words["plunge"] == FINANCE.words["plunge"]
    assert ours.version != FINANCE.version and FINANCE.extended({}).words == FINANCE.words
    assert FINANCE.words["plunges"] < 0
    scorer = LexiconScorer(ours)
    assert scorer.score(pd.Series(["Acme plunges"]))[0] > 0 and scorer.version != VADER_FINANCE.version


# a file of words


def test_csv_and_yaml_say_the_same(write):
    table = read_lexicon(write("word,valence\nmoon,2\n\n no ,-0.5\nwins ... deal,1e0\n"))
    assert table == {"moon": 2.0, "no": -0.5, "wins ... deal": 1.0}
    assert read_lexicon(write("moon: 2\nno: -0.5\n'wins ... deal': 1e0\n", "mine.yaml")) == table
    assert read_lexicon(write("", "mine.yml")) == {}


@pytest.mark.parametrize(
    "name, content, told",
    [
        ("mine.csv", "word,score\na,1\n", "line 1: the head must be word,valence"),
        ("mine.csv", "", "line 1: the head must be"),
        ("mine.csv", "word,valence\na,1,2\n", "line 2: 3 cells"),
        ("mine.csv", "word,valence\na,nan\n", "line 2: 'a' has valence 'nan'"),
        ("mine.csv", "word,valence\na,5\n", "from -4 to 4"),
        ("mine.csv", "word,valence\na|b,1\nb,2\n", "line 3: 'b' stands there with two valences"),
        ("mine.csv", "word,valence\n,1\n", "is no entry"),
        ("mine.csv", "word,valence\na||b,1\n", "is no entry"),
        ("mine.csv", "word,valence\n... a,1\n", "is no entry"),
        ("mine.csv", b"\xff\xfe\x00", "can't be read as text"),
        ("mine.yaml", "- a\n- b\n", "line 1: not a mapping"),
        ("mine.yaml", "a: 1\nb:\n  c: 1\n", "line 3: nested"),
        ("mine.yaml", "a: [1\n", "can't be read as YAML"),
        ("mine.yaml", "a: &x 1\nb: yes\n", "line 2: 'b' has valence 'yes'"),
        ("mine.yaml", "[" * 5000, "can't be read as YAML"),
        ("mine.txt", "a 1", "not a kind of lexicon"),
    ],
)
def test_a_bad_list_is_one_line_that_says_where(write, name, content, told):
    with pytest.raises(DataError) as caught:
        read_lexicon(write(content, name))
    assert told in str(caught.value) and "\n" not in str(caught.value) and "mine" in str(caught.value)


def test_a_list_that_is_not_there_or_is_too_large_is_one_line(tmp_path, write, monkeypatch):
    with pytest.raises(DataError, match=r"none\.csv: can't be read"):
        read_lexicon(tmp_path / "none.csv")
    monkeypatch.setattr("mlt_lib.data.lexicon.MOST", 10)
    with pytest.raises(DataError, match="larger than 10 bytes"):
        read_lexicon(write("word,valence\nmoon,2\n"))


@QUICK
@given(content=st.text(max_size=200), name=st.sampled_from(["mine.csv", "mine.yaml"]))
@example(content="\x00: 1", name="mine.yaml")
@example(content='word,valence\n"a', name="mine.csv")
@example(content="? a\n: 1", name="mine.yaml")
@example(content="word,valence\n\x85,1", name="mine.csv")
def test_whatever_a_list_holds_it_is_read_or_refused(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("lexicon") / name
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    try:
        found = read_lexicon(path)
    except MltError as error:
        assert "\n" not in str(error)
    else:
        assert all(abs(value) <= 4 for value in found.values())
        scores = LexiconScorer(FINANCE.extended(found)).score(pd.Series(["a fine day", *list(found)[:3]]))
        assert scores.dropna().between(-1, 1).all()


# scores


@QUICK
@given(texts=st.lists(TEXT | st.none() | st.just(math.nan), max_size=8))
def test_a_score_is_bounded_repeatable_and_stays_on_its_row(texts):
    series = pd.Series(texts, index=range(100, 100 + len(texts)), dtype=object)
    scores = VADER_FINANCE.score(series)
    assert scores.index.equals(series.index) and scores.dropna().between(-1, 1).all()
    pd.testing.assert_series_equal(scores[::-1], VADER_FINANCE.score(series[::-1]))
    unread = ~series.map(plain).map(lambda text: any(c.isalpha() for c in text)).astype(bool)
    assert (scores.isna() == unread).all()


@QUICK
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=250))
def test_without_our_list_a_plain_text_scores_as_vader_does(text):
    words = plain(text)
    if any(c.isalpha() for c in words):
        assert VADER.score(pd.Series([text]))[0] == SentimentIntensityAnalyzer().polarity_scores(words)["compound"]


def test_addresses_handles_and_cashtags_are_no_words():
    assert plain("RT @user: $LOVE &amp; $FUN win https://t.co/happy @best www.good.com") == "& win"
    assert plain("AT&amp;T up") == "AT&T up" and plain(7) == plain(None) == ""
    assert plain("range 3-5% of 10%") == "range 3-5% of 10%"
    assert len(plain("word " * 10_000)) <= OPENING


def test_copies_and_torn_retweets_have_one_key():
    first = (
        "Acme beats estimates, raises its outlook for the year and promises a larger dividend to everybody who waits"
    )
    torn = f"RT @desk: {first[:100]}…"
    assert text_key(first) == text_key(torn) == text_key(first.upper() + " https://t.co/abc")
    assert text_key(first) != text_key(first.replace("beats", "misses"))
    assert text_key(None) == text_key("https://t.co/a") == ""


# a classifier


def test_a_classifier_sees_only_what_can_be_read_and_its_chances_are_checked():
    seen = []

    def chances(texts):
        seen.extend(texts)
        return np.tile([0.2, 0.3, 0.5], (len(texts), 1))

    scores = ClassifierScorer(chances, "c", "1").score(pd.Series(["up", "up", None, "http://x"]))
    assert seen == ["up"] and np.isclose(scores[:2], 0.3).all() and scores[2:].isna().all()
    for wrong in (np.ones((1, 3)), np.full((1, 3), np.nan), np.zeros((0, 3)), np.array([[-0.5, 0.5, 1.0]])):
        with pytest.raises(DataError, match="scorer c: 1 texts need 1 rows"):
            ClassifierScorer(lambda texts, wrong=wrong: wrong, "c", "1").score(pd.Series(["up"]))


# measure


@QUICK
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_balanced_accuracy_and_confusion_agree_with_scikit_learn(pairs):
    truth, called = np.array(pairs).T
    found = quality(truth, called, draws=20)
    assert (found.confusion == confusion_matrix(truth, called, labels=[0, 1, 2])).all()
    called_known = np.where(
        np.isin(called, truth), called, -1
    )  # the peer counts a class that was only called, with a warning
    expected = np.mean([(called_known[truth == c] == c).mean() for c in np.unique(truth)])
    assert found.balanced == pytest.approx(expected)
    if set(called) <= set(truth):
        assert found.balanced == pytest.approx(balanced_accuracy_score(truth, called))


def test_the_error_is_the_bootstraps_and_whole_groups_are_drawn():
    random = np.random.default_rng(1)
    truth = random.integers(0, 3, 900)
    called = np.where(random.random(900) < 0.6, truth, 1)
    alone = quality(truth, called)
    assert alone.error == pytest.approx(np.sqrt(sum(r * (1 - r) / 300 for r in (0.6, 0.6, 1.0))) / 3, rel=0.15)
    ten = pd.Series(np.arange(9000) % 900)  # ten copies of each text: ten times the rows, no more knowledge
    copies = quality(np.tile(truth, 10), np.tile(called, 10), ten)
    assert copies.error == pytest.approx(alone.error, rel=0.1) and copies.balanced == pytest.approx(alone.balanced)
    assert "±" in alone._repr_html_() and (quality(truth, called).draws == alone.draws).all()


def test_the_band_is_found_and_missing_scores_count_as_neutral():
    scores = pd.Series([-0.9, -0.05, 0.04, np.nan, 0.8])
    assert calls(scores, 0.06).tolist() == [0, 1, 1, 1, 2]
    assert best_band(np.array([0, 1, 1, 1, 2]), scores) == 0.06
    with pytest.raises(DataError, match="0 truths beside 0 calls"):
        quality(np.array([]), np.array([]))


def test_copies_lie_in_the_same_half_and_the_coin_is_fair():
    texts = pd.Series([f"headline number {n}" for n in range(2000)])
    half = first_half(texts)
    assert 900 < half.sum() < 1100 and (half == first_half(texts.str.upper() + " https://t.co/x")).all()
    assert not (half == first_half(texts, seed=1)).all()


def test_importing_is_light(run_python):
    loaded = "import sys, mlt_lib.data.sentiment, mlt_lib.data.lexicon; print([m for m in ('vaderSentiment', 'yaml', 'sklearn') if m in sys.modules])"
    assert run_python(loaded) == "[]"
