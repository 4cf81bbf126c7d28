"The runner: checked parameters, one at a time, a limit for the whole run, a receipt and a page whatever happens."

from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from mlt_lib.errors import JobError, SettingsError
from mlt_lib.jobs.runner import Parameters, check_parameters, environment, only_one, parse_parameters, run_job
from mlt_lib.settings import Settings
from mlt_lib.store.database import open_database
from mlt_lib.store.runs import runs_frame

TOLD = Parameters("2022-12-28", "demo")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "settings.ini").write_text("[schedule]\njob_timeout_seconds = 60\n")
    return tmp_path


def notebook(folder: Path, *sources: str, parameters: str = "session: str = ''\nnamespace: str = 'demo'") -> Path:
    "A job notebook of these cells."
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    book = nbformat.v4.new_notebook(cells=cells + [nbformat.v4.new_code_cell(source) for source in sources])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / "job.ipynb")
    return folder / "job.ipynb"


def attempt(place: Path, *sources: str):
    "Run a notebook of these cells as the report job: its receipt and its row in the store."
    settings = Settings.find(place / "settings.ini")
    engine = open_database(settings.database_url)
    receipt = run_job("report", TOLD, settings, engine, "d" * 64, notebook=notebook(place, *sources))
    row = runs_frame(engine).iloc[0]
    engine.dispose()
    return receipt, row


@pytest.mark.process
def test_a_run_leaves_a_receipt_a_notebook_and_a_page(place):
    receipt, row = attempt(place, "import os\nassert os.environ['MLT_RUN_ID']", "f'{session} of {namespace}'")
    assert receipt.status == row["status"] == "done" and receipt.error == ""
    assert receipt.notebook.exists() and "2022-12-28 of demo" in receipt.page.read_text()
    assert receipt.page == place / "reports/report/2022-12-28.html"
    assert row["data_hash"] == "d" * 64 and len(row["settings_hash"]) == 64 and len(row["code_hash"]) == 64
    assert row["ended"] >= row["started"]
    assert "2022-12-28" in (place / "reports/index.html").read_text()


@pytest.mark.process
def test_a_failed_run_keeps_its_notebook_and_shows_the_error_on_its_page(place):
    receipt, row = attempt(place, "raise ValueError('the <b>price</b> of KO is gone')", "'never'")
    assert receipt.status == row["status"] == "failed"
    assert "cell 2" in receipt.error and "the <b>price</b> of KO is gone" in receipt.error
    text = receipt.page.read_text()
    assert "the &lt;b&gt;price&lt;/b&gt; of KO is gone" in text and "<b>price" not in text
    assert receipt.notebook.exists() and "failed" in (place / "reports/index.html").read_text()


@pytest.mark.process
def test_the_limit_is_for_the_whole_run(place):
    (place / "settings.ini").write_text("[schedule]\njob_timeout_seconds = 4\n")
    receipt, row = attempt(place, *["import time; time.sleep(1.5)"] * 4)
    assert receipt.status == "failed" and "longer than 4 s" in receipt.error and receipt.seconds < 12


@pytest.mark.process
def test_a_kernel_that_dies_is_a_failed_run(place):
    receipt, _ = attempt(place, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert receipt.status == "failed" and "kernel died" in receipt.error and receipt.page.exists()


def test_a_second_run_of_a_job_is_refused_while_the_first_goes_on(place):
    with only_one(place / ".mlt/locks", "report"), pytest.raises(JobError, match="running already"):
        attempt(place, "1")
    assert not (place / "reports").exists()


@dataclass(frozen=True)
class Secretive(Parameters):
    "A job that wants a secret."

    api_key: str = ""


@dataclass(frozen=True)
class Wider(Parameters):
    "A job with a number."

    leverage: float = 1.0


def test_secrets_can_not_be_parameters(place):
    job = notebook(place, parameters="session: str = ''\nnamespace: str = ''\napi_key: str = ''")
    with pytest.raises(SettingsError, match="api_key.*secret"):
        check_parameters(job, Secretive())


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("session: str = ''\nnamespace: str = ''", "leverage: float is not in the notebook"),
        ("session: str = ''\nnamespace: str = ''\nleverage: int = 1", "leverage: float is not in the notebook"),
    ],
)
def test_parameters_are_checked_by_name_and_type(place, cell, why):
    with pytest.raises(SettingsError, match=why):
        check_parameters(notebook(place, parameters=cell), Wider())
    assert check_parameters(notebook(place), TOLD) == {"session": "2022-12-28", "namespace": "demo"}


@pytest.mark.parametrize("text", ["nan", "007", "none", "1e5", "true"])
def test_text_stays_text(text):
    assert parse_parameters("trade", [f"namespace={text}"]).namespace == text


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "A", "'; import os; '", "x" * 41, "a\nb"])
def test_a_name_that_would_leave_its_folder_is_refused(name):
    with pytest.raises(SettingsError, match="namespace"):
        Parameters("2022-12-28", name)
    with pytest.raises(SettingsError, match="session"):
        Parameters(name or "x", "demo")


def test_the_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("MLT_RUN_A", "before")
    with environment(MLT_RUN_A="x", MLT_RUN_B="y"):
        import os

        assert (os.environ["MLT_RUN_A"], os.environ["MLT_RUN_B"]) == ("x", "y")
    assert os.environ["MLT_RUN_A"] == "before" and "MLT_RUN_B" not in os.environ
