"From settings to closes: the universe and the span are kept to, or refused in a line."

import pandas as pd
import pytest

from mlt_lib.data.collect import collect
from mlt_lib.data.sample import NOTE, closes
from mlt_lib.errors import DataError
from mlt_lib.settings import Data, Settings, Universe


def settings(root, **universe):
    "Settings for the sample with this universe."
    return Settings(path=root / "settings.ini", root=root, universe=Universe(**universe))


@pytest.fixture
def of_file(tmp_path):
    "Settings for a file of five sessions, one cell of it damaged."
    text = closes().loc["2022-12-20":"2022-12-27", ["KO", "XOM"]].to_csv().replace("63.24", "oops")
    assert "oops" in text
    (tmp_path / "mine.csv").write_text(text)
    return lambda **universe: Settings(
        path=tmp_path / "settings.ini",
        root=tmp_path,
        data=Data(source="files", path="mine.csv"),
        universe=Universe(**universe),
    )


def test_the_default_is_the_whole_sample_with_its_note(tmp_path):
    got = collect(settings(tmp_path))
    pd.testing.assert_frame_equal(got.prices, closes())
    assert (got.source, got.note) == ("sample", NOTE) and "survivors" in got.note and got.damaged.empty


def test_the_universe_and_the_span_are_kept_to(tmp_path):
    got = collect(settings(tmp_path, symbols="XOM, KO", first_session="2020-03-16", last_session="2020-03-19"))
    pd.testing.assert_frame_equal(got.prices, closes().loc["2020-03-16":"2020-03-19", ["XOM", "KO"]])


@pytest.mark.parametrize(
    ("universe", "words"),
    [
        ({"symbols": "APPL"}, r"APPL is not in the data; did you mean AAPL"),
        ({"symbols": "xom"}, r"xom is not in the data; did you mean XOM"),
        ({"symbols": "12345"}, r"there are AAPL, AMD.*…\?"),
        ({"first_session": "2020-03-14"}, r"first_session = 2020-03-14 \(Saturday\) is not a session.*2020-03-16"),
        ({"last_session": "2022-12-26"}, r"last_session = 2022-12-26 \(Monday\) is not a session"),
        ({"last_session": "2023-01-03"}, r"outside the data, which run from 1990-01-02 to 2022-12-28"),
        ({"first_session": "1980-01-03"}, r"outside the data, which run from 1990-01-02 to 2022-12-28"),
    ],
)
def test_what_cannot_be_had_is_one_line(tmp_path, universe, words):
    with pytest.raises(DataError, match=words) as caught:
        collect(settings(tmp_path, **universe))
    assert str(caught.value).startswith("[universe] ") and "\n" not in str(caught.value)


def test_a_file_brings_its_damage_along(of_file):
    got = collect(of_file())
    assert (got.source, got.prices.shape, got.damaged["symbol"].tolist()) == ("files", (5, 2), ["KO"])
    assert "mine.csv" in got.note and "/" not in got.note


def test_damage_outside_the_universe_or_the_span_is_not_ours(of_file):
    assert collect(of_file(symbols="XOM")).damaged.empty
    assert collect(of_file(last_session="2022-12-23")).damaged.empty
    assert len(collect(of_file(first_session="2022-12-27")).damaged) == 1


def test_files_without_a_path_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"\[data\] path is empty"):
        collect(Settings(path=tmp_path, root=tmp_path, data=Data(source="files")))
