"The page says the verdict, shows every rule that listed a row, escapes what it is given, and stands alone."

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlt_lib.data.bars import validate_bars
from mlt_lib.data.planted import CLOSES_ONLY, plant
from mlt_lib.data.sample import closes
from mlt_lib.data.source import BAR_COLUMNS, no_actions
from mlt_lib.errors import DataError
from mlt_lib.jobs.quality import quality_report
from mlt_lib.report.publish import pieces_to_html
from mlt_lib.report.quality import checklist, neighbourhood, quality_pieces, recall_table, verdict
from mlt_lib.settings import Settings


@pytest.fixture(scope="module")
def spoilt():
    "Sample closes with planted faults, as they came and as they were judged."
    wide = closes().loc["2008":"2016"]
    bars = wide.T.stack().rename("close").reset_index().reindex(columns=list(BAR_COLUMNS))
    made = plant(bars, no_actions(), seed=3, each=3, kinds=CLOSES_ONLY)
    return made.bars, validate_bars(made.bars, made.actions)


def page(found, raw, **more) -> str:
    return pieces_to_html(quality_pieces(found, raw, "sample", **more), "Data quality")


def test_every_rule_that_listed_a_row_stands_on_the_page(spoilt):
    raw, found = spoilt
    html = page(found, raw, origin={"bars": "sample"})
    for rule, row in found.summary.iterrows():
        assert f">{rule}</th>" in html and f"<b>{row['rows']:,}</b>" in html
    assert f"{found.share:.2%}" in html and html.count("<h1") == 1 and "<figure" in html


def test_the_page_fetches_nothing_and_is_small(spoilt):
    html = page(*spoilt[::-1])
    assert not re.search(r'(src|href)="(https?:)?//', html) and "<script" not in html and len(html) < 600_000


def test_the_verdict_follows_the_floor(spoilt):
    raw, _ = spoilt
    good = raw[raw["close"].between(0.01, 1e6)].drop_duplicates(["symbol", "session"])
    thin = good.drop(index=good.index[100:4000])
    assert "Stop" in verdict(validate_bars(thin)).data
    clean = validate_bars(good.iloc[:500])
    assert "Clean" in verdict(clean).data if clean.quarantine.empty else "Usable" in verdict(clean).data


def test_a_source_without_a_fault_has_a_page_too():
    wide = closes().loc["2012":"2012"]
    bars = wide.T.stack().rename("close").reset_index().reindex(columns=list(BAR_COLUMNS))
    html = page(validate_bars(bars), bars)
    assert "Clean" in html and "no row is held back" in html and "What it looks like" not in html


def test_names_from_outside_cannot_become_markup():
    days = pd.bdate_range("2018-01-02", periods=6)
    bars = pd.DataFrame({"symbol": "<b>X", "session": days, "close": [1.0, 1, -1, 1, 1, 1]})
    html = page(validate_bars(bars), bars.reindex(columns=list(BAR_COLUMNS)), remark="<script>alert(1)</script>")
    assert "<b>X" not in html.replace("&lt;b&gt;X", "") and "<script>" not in html


def test_a_neighbourhood_is_what_lies_around_a_session():
    days = pd.bdate_range("2018-01-02", periods=40)
    bars = pd.DataFrame({"symbol": "A", "session": days, "close": np.arange(40.0)})
    assert neighbourhood(bars, "A", days[20], 3)["close"].tolist() == [17.0, 18, 19, 20, 21, 22, 23]
    assert neighbourhood(bars, "A", days[0], 2)["close"].tolist() == [0.0, 1.0, 2.0]


def test_a_checklist_is_counted_row_by_row(spoilt):
    _, found = spoilt
    row = found.quarantine.iloc[0]
    known = pd.DataFrame(
        {"symbol": [row["symbol"], "ZZZ"], "session": [row["session"], row["session"]], "kind": ["a", "a"]}
    )
    assert checklist(known, found).loc["a"].tolist() == [2, 1, 0, 1]


def test_recall_is_shown_worst_first():
    table = pd.DataFrame(
        {"planted": [5, 5], "found": [5, 1], "recall": [1.0, 0.2], "error": [0.0, 0.1], "rules": ["spike", None]},
        index=pd.Index(["easy", "hard"], name="kind"),
    )
    html = recall_table(table, pd.Series([1.0, 0.9])).data
    assert html.index("hard") < html.index("easy") and "20%" in html and "6 of 10" in html


def test_the_job_writes_a_page_of_the_sample_and_tells_how_far_it_is(tmp_path):
    (tmp_path / "settings.ini").write_text("[data]\nsource = sample\n")
    told = []
    path = quality_report(Settings.find(tmp_path / "settings.ini"), tell=lambda *step: told.append(step))
    html = Path(path).read_text()
    assert path == tmp_path / "reports/quality/sample.html"
    assert "planted in them" in html and "How good the rules are" in html and told[-1][1:] == (3, 3)


def test_the_job_reads_a_users_file(tmp_path):
    days = pd.bdate_range("2018-01-02", "2018-03-29")
    rows = pd.DataFrame({"date": days, "ticker": "KO", "close": 45.0 + np.sin(np.arange(len(days)))})
    rows.loc[10, "close"] = 4500.0
    rows.to_csv(tmp_path / "mine.csv", index=False)
    (tmp_path / "settings.ini").write_text("[data]\nsource = files\npath = mine.csv\n")
    html = Path(quality_report(Settings.find(tmp_path / "settings.ini"), out=tmp_path / "q.html")).read_text()
    assert "KO" in html and "spike" in html


def test_a_vendor_without_stored_bars_is_one_clear_line(tmp_path):
    (tmp_path / "settings.ini").write_text("[data]\nsource = sample\n")
    with pytest.raises((DataError, Exception), match="mlt|alpaca"):
        quality_report(Settings.find(tmp_path / "settings.ini"), source="alpaca")
