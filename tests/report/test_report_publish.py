"The page of a run: whole or not at all, one heading, nothing fetched, errors on top; and the index of runs."

import os
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mlt_lib.errors import JobError
from mlt_lib.report import publish, sheet, tear

ALLOWED_TAGS = {"html", "head", "meta", "link", "title", "style", "body", "main", "header", "section", "footer"}


def shown(piece, number=1):
    "A code cell that showed a piece."
    data = {"text/html": piece.data, "text/plain": "<IPython.core.display.HTML object>"}
    return new_code_cell("secret_source()", outputs=[new_output("execute_result", data)], execution_count=number)


def failed(ename="DataError", evalue="no close", trace=("\x1b[0;31mDataError\x1b[0m: no close",), number=3):
    "A code cell that failed."
    return new_code_cell(
        "1/0", outputs=[new_output("error", ename=ename, evalue=evalue, traceback=list(trace))], execution_count=number
    )


@pytest.fixture
def write(tmp_path):
    "Cells written as a notebook and rendered; the page's source."

    def rendered(*cells, metadata=None, title="Daily report", **more):
        nbformat.write(new_notebook(cells=list(cells), metadata=metadata or {}), tmp_path / "run.ipynb")
        return publish.render(tmp_path / "run.ipynb", tmp_path / "out/run.html", title, **more).read_text("utf-8")

    return rendered


@pytest.fixture(scope="module")
def whole(streams):
    "The cells of a page that has every piece."
    book, market = streams
    checked = pd.DataFrame({"value": [0.1], "bound": [0.2], "use": [0.5], "light": ["ok"]}, index=["largest name"])
    frame = pd.DataFrame({"name": ["AT&T", "<script>x</script>"], "shares": [1, 2]})
    names = [f"N{i:02}" for i in range(20)]
    return [
        shown(sheet.headline("Daily report", "close of <day>")),
        shown(sheet.banner("ok", "All limits clear.")),
        shown(sheet.kpis([("Sharpe", "1.1", "± 0.2 s.e.")] * 6)),
        shown(
            sheet.columns(sheet.section("Limits", sheet.limits(checked)), sheet.section("Orders", sheet.table(frame)))
        ),
        shown(sheet.section("Wealth", tear.wealth_and_drawdown(book, market))),
        shown(tear.bars(pd.Series(np.linspace(-0.1, 0.2, 20), names), "Weights.")),
        shown(tear.perf_table(tear.perf_stats(book, market))),
        shown(tear.model_and_real(1e6 * (1 + book).cumprod(), book, book.abs())),
        new_markdown_cell("A remark with *stress* and a [link](#foot)."),
        shown(sheet.provenance({"data up to": "2022-12-28", "versions": "pandas 3"})),
    ]


def test_the_whole_page_keeps_its_promises(write, whole, read):
    source = write(*whole)
    page = read(source)
    tags = [t for t, _ in page.tags]
    assert tags.count("h1") == 1 and page.all("html") == [{"lang": "en"}]
    assert all(a.get("aria-label") and a.get("role") == "img" for a in page.all("figure"))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert (
        "script" not in tags and "iframe" not in tags and not any(k.startswith("on") for _, a in page.tags for k in a)
    )
    assert len(source.encode()) < 250_000
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_page_fetches_nothing(write, whole, read):
    source = write(*whole)
    assert re.findall(r"https?://|@import|url\((?!#)", source) == []
    addresses = [v for _, a in read(source).tags for k, v in a.items() if k in ("href", "src", "xlink:href", "srcset")]
    assert addresses and all(v.startswith(("#", "data:")) for v in addresses)
    assert "default-src 'none'" in source


def test_inputs_and_streams_are_not_shown_and_plain_text_is_escaped(write):
    cell = new_code_cell(
        "secret_source()",
        outputs=[
            new_output("stream", name="stdout", text="printed"),
            new_output("stream", name="stderr", text="warned"),
            new_output("execute_result", {"text/plain": "<b>plain</b>"}),
            new_output("display_data", {"application/javascript": "alert(1)"}),
            new_output("display_data", {"text/latex": "$<x>$"}),
            new_output("display_data", {"text/markdown": "**strong**"}),
        ],
    )
    source = write(cell)
    assert not any(word in source for word in ("secret_source", "printed", "warned", "alert(1)"))
    assert "<pre>&lt;b&gt;plain&lt;/b&gt;</pre>" in source and "&lt;x&gt;" in source
    assert "<strong>strong</strong>" in source


def test_a_page_without_a_heading_gets_its_title_once(write, read):
    assert [t for _, t in read(write(shown(sheet.note("x")), title="A & <B>")).texts if t == "A & <B>"] == [
        "A & <B>"
    ] * 2
    page = read(write(new_markdown_cell("# Mine"), title="Other"))
    assert [t for t, _ in page.tags].count("h1") == 1


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30) | st.sampled_from(["</title><script>", "</style>", "{{ 7*7 }}", "{% raw %}"]))
def test_no_title_or_message_becomes_markup(write, read, text):
    page = read(write(failed(ename=text or "E", evalue=text, trace=[text]), title=text, error=text))
    assert {t for t, _ in page.tags} <= ALLOWED_TAGS | {"h1", "p", "span", "details", "summary", "pre"}
    assert "49" not in page.text.replace(text, "")[-200:]


def test_a_failed_run_says_so_on_top_and_keeps_what_ran(write, read):
    banner = new_markdown_cell("<span>An Exception was encountered</span>")
    banner.metadata["tags"] = ["papermill-error-cell-tag"]
    source = write(banner, shown(sheet.note("what ran")), failed(evalue="<AAPL> has no close\nrun ingest"))
    page = read(source)
    assert "An Exception was encountered" not in source and "\x1b" not in source
    assert page.text.index("This run failed in cell 3.") < page.text.index("what ran")
    assert "DataError: <AAPL> has no close\nrun ingest" in page.text
    assert page.text.count("DataError: no close") == 1  # the traceback, folded
    assert [t for t, _ in page.tags].count("h1") == 1
    assert page.all("section")[0] == {"class": "failure", "role": "alert"}


def test_what_the_runner_knows_goes_first(write, read):
    text = read(write(shown(sheet.note("x")), error="timed out after 900 s; raise job_timeout_seconds")).text
    assert "This run failed in the run itself." in text and "timed out after 900 s" in text
    text = read(write(failed(), error="JobError: stopped at the trade gate")).text
    assert "JobError: stopped at the trade gate" in text and "DataError: no close" in text


def test_a_run_stopped_from_outside_and_an_error_without_message(write, read):
    text = read(write(shown(sheet.note("x")), metadata={"papermill": {"exception": True}})).text
    assert "stopped from outside" in text
    assert "KeyboardInterrupt" in read(write(failed("KeyboardInterrupt", "", (), None))).text
    assert (
        "This run failed" not in read(write(shown(sheet.note("x")), metadata={"papermill": {"exception": None}})).text
    )


@pytest.mark.parametrize("damage", ["missing", "{", "[]", "\xff"])
def test_a_notebook_that_can_not_be_read_leaves_the_old_page(tmp_path, damage):
    page = publish.replace_file(tmp_path / "run.html", "the old page")
    notebook = tmp_path / "run.ipynb"
    if damage != "missing":
        notebook.write_text(damage, "latin-1")
    with pytest.raises(JobError, match="run.ipynb: can't be read as a notebook"):
        publish.render(notebook, page, "x")
    assert page.read_text() == "the old page"


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_a_failing_disk_leaves_the_old_page_and_no_rubbish(tmp_path, monkeypatch, call):
    page = publish.replace_file(tmp_path / "run.html", "the old page")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space"):
        publish.replace_file(page, "the new page")
    assert page.read_text() == "the old page"
    assert [p.name for p in tmp_path.iterdir()] == ["run.html"]


def test_a_written_page_can_be_read_by_others_and_makes_its_folder(tmp_path):
    page = publish.replace_file(tmp_path / "a/b/run.html", "ü")
    assert page.stat().st_mode & 0o777 == 0o644
    assert page.read_bytes() == "ü".encode()


@pytest.fixture
def runs():
    "Three runs of two jobs; the newest failed."
    return pd.DataFrame(
        {
            "run_id": ["r1", "r2", "r3"],
            "job": ["report", "trade", "report"],
            "namespace": ["demo"] * 3,
            "session": ["2022-12-27", "2022-12-28", "2022-12-28"],
            "status": ["done", "done", "failed"],
            "started": pd.to_datetime(["2026-11-20T19:31:00Z", "2026-11-21T19:30:00Z", "2026-11-21T19:32:00Z"]),
            "ended": pd.to_datetime(["2026-11-20T19:31:20Z", "2026-11-21T19:35:00Z", None]),
            "error": [None, None, "\x1b[31mDataError\x1b[0m: <AAPL> has no close"],
            "report": ["report/2022-12-27.html", "trade/gone.html", "report/2022-12-28.html"],
        }
    )


def index(folder, runs, read):
    return read(publish.write_index(folder, runs).read_text("utf-8"))


def test_the_index_lists_every_run_newest_first_and_marks_failures(tmp_path, runs, read):
    for day in ("2022-12-27", "2022-12-28"):
        publish.replace_file(tmp_path / f"report/{day}.html", "x")
    page = index(tmp_path, runs, read)
    assert [t for _, t in page.texts if re.fullmatch(r"r\d", t)] == ["r3", "r2", "r1"]
    assert [a["href"] for a in page.all("a")] == [f"report/2022-12-{d}.html" for d in (28, 28, 27)]
    assert "Last run of report: failed" in page.text and "DataError: <AAPL> has no close" in page.text
    assert "5 min" in page.text and "20.0 s" in page.text
    assert [t for t, _ in page.tags].count("h1") == 1 and page.all("script") == []


def test_the_index_of_no_run_works(tmp_path, read):
    assert "no run yet" in index(tmp_path, pd.DataFrame(), read).text


def test_the_index_is_calm_when_all_is_well_and_not_when_interrupted(tmp_path, runs, read):
    assert "No job's last run failed." in index(tmp_path, runs.assign(status="done"), read).text
    assert "Last run of report, trade: interrupted" in index(tmp_path, runs.assign(status="interrupted"), read).text


def test_only_the_last_run_links_a_page_that_two_runs_wrote(tmp_path, runs, read):
    publish.replace_file(tmp_path / "report/day.html", "x")
    page = index(tmp_path, runs.assign(report="report/day.html", job="report"), read)
    assert [a["href"] for a in page.all("a")] == ["report/day.html"] * 2  # its card and its row
    assert page.text.count("replaced by a later run") == 2


def test_no_link_leaves_the_folder(tmp_path, runs):
    folder = tmp_path / "reports"
    publish.replace_file(tmp_path / "secret.html", "x")
    inside = publish.replace_file(folder / "trade/a b&#.html", "x")
    assert publish.link_of(folder, "../secret.html") == ""
    assert publish.link_of(folder, str(tmp_path / "secret.html")) == ""
    assert publish.link_of(folder, "javascript:alert(1)") == ""
    assert publish.link_of(folder, None) == "" and publish.link_of(folder, float("nan")) == ""
    assert publish.link_of(folder, str(inside)) == "trade/a%20b%26%23.html"
    assert publish.link_of(folder, "reports/trade/a b&#.html") == "trade/a%20b%26%23.html"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=20), st.sampled_from(["done", "<i>", None]))
def test_no_run_becomes_markup(tmp_path, runs, read, text, status):
    page = index(
        tmp_path, runs.assign(job=text, run_id=text, session=text, error=text, namespace=text, status=status), read
    )
    assert {t for t, _ in page.tags} <= ALLOWED_TAGS | set(
        ["h1", "h2", "p", "span", "dl", "div", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "br"]
    )
