"The command line: bad input is one line and exit code 2 with nothing changed on disk; every command explains itself."

import hashlib
import os
import socket
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlt_lib import cli
from mlt_lib.data.sample import closes
from mlt_lib.store.database import open_database

COMMANDS = ["daily", "replay", "run", "report", "settings", "doctor", "lab"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    "An empty desk's folder that is the current one."
    for name in [name for name in os.environ if name.startswith("MLT_") and not name.startswith("MLT_TEST")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.ini").write_text("[data]\nsource = sample\n")
    return tmp_path


def contents(place: Path) -> dict[str, str]:
    "Every file with its digest; SQLite's own side files aside."
    files = (path for path in place.rglob("*") if not path.name.endswith(("-wal", "-shm")))
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in files
    }


@pytest.fixture
def mlt(monkeypatch, capsys):
    "Run a command in this process: exit code, standard output, standard error."

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlt", *words])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(mlt, command):
    code, out, _ = mlt(command, "--help")
    assert code == 0 and f"Example: mlt {command}" in " ".join(out.split())


WRONG = {
    "unknown strategy": ("[strategy]\nname = moonshot\n", ["daily"], "[strategy] name"),
    "unknown sleeve": ("[strategy]\nsleeves = momentun\n", ["daily"], "momentum"),
    "settings typo": ("[risk]\nmax_gros_share = 1\n", ["daily"], "max_gross_share"),
    "negative limit": ("[risk]\nmax_drawdown_share = -0.1\n", ["daily"], "max_drawdown_share"),
    "percent for a share": ("[risk]\nmax_name_share = 15\n", ["daily"], "0.15"),
    "fill at opens that are not there": ("[execution]\nfill = next_open\n", ["daily"], "next_close"),
    "no session": ("", ["daily", "--session", "2022-12-25"], "2022-12-25"),
    "a date before the data": ("", ["daily", "--session", "1950-01-03"], "1990-01-02"),
    "a date after the data": ("", ["daily", "--session", "2031-01-02"], "2022-12-28"),
    "no date": ("", ["daily", "--session", "soon"], "YYYY-MM-DD"),
    "too many sessions": ("", ["replay", "--sessions", "9000"], "8060"),
    "a replay on a real broker": (
        "[execution]\nbroker = paper\nrest_url = https://paper.example.org\n",
        ["replay"],
        "simulated",
    ),
    "unknown job": ("", ["run", "trad"], "trade"),
    "unknown job parameter": ("", ["run", "trade", "-p", "sesion=2022-12-28"], "sesion"),
    "a parameter without a value": ("", ["run", "trade", "-p", "session"], "session"),
    "unknown section": ("", ["settings", "--section", "rsk"], "rsk"),
    "no such settings file": ("", ["daily", "--settings", "nowhere.ini"], "nowhere.ini"),
    "no such price file": ("[data]\nsource = files\npath = prices.csv\n", ["daily"], "prices.csv"),
    "unknown symbol": ("[universe]\nsymbols = AAPL, KOO\n", ["daily"], "KOO"),
    "nothing to report": ("", ["report"], "mlt daily"),
    "nothing to report as a job": ("", ["run", "report"], "mlt daily"),
    "not a time": ("", ["daily", "--session", "NaT"], "YYYY-MM-DD"),
    "a time of day": ("", ["daily", "--session", "2022-12-28 12:00"], "YYYY-MM-DD"),
    "another order of a date": ("", ["daily", "--session", "12/28/2022"], "YYYY-MM-DD"),
    "digits of another alphabet": ("", ["daily", "--session", "２０２２-12-28"], "YYYY-MM-DD"),
    "a book outside its folder": ("", ["run", "trade", "-p", "namespace=../../x"], "namespace"),
    "a report outside its folder": ("", ["report", "--namespace", "/tmp/x"], "namespace"),
    "one name": ("[universe]\nsymbols = KO\n", ["daily"], "max_weight_share"),
    "too few names for the caps": ("[universe]\nsymbols = KO, PEP, XOM\n", ["daily"], "max_weight_share"),
    "too early a session": ("", ["daily", "--session", "1990-03-01"], "253"),
    "too short a history": ("[universe]\nfirst_session = 2022-06-01\n", ["daily"], "253"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_one_clear_line_and_changes_nothing(place, mlt, name):
    text, words, expected = WRONG[name]
    (place / "settings.ini").write_text(text or "[data]\nsource = sample\n")
    before = contents(place)
    code, _, err = mlt(*words)
    assert code == 2, err
    assert expected in err and "Traceback" not in err
    assert err.startswith("mlt: ") and len(err.strip().splitlines()) == 1
    assert contents(place) == before


def test_a_busy_port_is_named_before_anything_is_written(place, mlt):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (place / "settings.ini").write_text(f"[execution]\nexchange_port = {port}\n")
        before = contents(place)
        code, _, err = mlt("daily")
    assert code == 2 and str(port) in err and "busy" in err
    assert contents(place) == before


@pytest.mark.parametrize("name", [".mlt", "reports"])
def test_a_file_where_a_folder_belongs_is_named(place, mlt, name):
    (place / name).write_text("mine")
    before = contents(place)
    code, _, err = mlt("daily")
    assert code == 2 and name in err and "Traceback" not in err
    assert contents(place) == before


def test_a_locked_database_is_named(place, mlt):
    open_database(f"sqlite:///{place}/.mlt/desk.db").dispose()
    holder = sqlite3.connect(place / ".mlt/desk.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        before = contents(place)
        code, _, err = mlt("daily")
    finally:
        holder.close()
    assert code == 2 and "desk.db" in err and "busy" in err
    assert contents(place) == before


def test_a_database_of_a_newer_version_is_refused(place, mlt):
    open_database(f"sqlite:///{place}/.mlt/desk.db").dispose()
    with sqlite3.connect(place / ".mlt/desk.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = contents(place)
    code, _, err = mlt("daily")
    assert code == 2 and "newer version" in err and "9999" in err
    assert contents(place) == before


def damaged(place: Path, share: float) -> None:
    "The last years of the sample with a share of its cells made zero, as a user's file."
    prices = closes().loc["2019-01-02":].copy()
    cells = np.random.default_rng(1).random(prices.shape) < share
    prices.mask(cells, 0.0).to_csv(place / "prices.csv")
    (place / "settings.ini").write_text(
        "[data]\nsource = files\npath = prices.csv\n[report]\ntrack_record_start = 2022-09-01\n"
    )


def test_a_file_damaged_beyond_the_floor_stops_the_run(place, mlt):
    damaged(place, 0.10)
    before = contents(place)
    code, _, err = mlt("daily")
    assert code == 2 and "coverage_share" in err and "not-positive" in err
    assert contents(place) == before


@pytest.mark.process
def test_a_file_with_some_damage_runs_and_lists_every_cell(place, mlt):
    damaged(place, 0.0005)
    code, out, err = mlt("run", "ingest")
    refused = pd.read_sql("SELECT rule FROM quarantine", f"sqlite:///{place}/.mlt/desk.db")
    assert code == 0, err
    assert len(refused) > 5 and set(refused["rule"]) == {"not-positive"}
    page = (place / "reports/ingest/2022-12-28.html").read_text()
    assert page.count("not-positive") >= len(refused) and "quarantined" in page


def test_settings_are_shown_with_what_overrides_them(place, mlt, monkeypatch):
    monkeypatch.setenv("MLT_RISK_MAX_NAME_SHARE", "0.3")
    code, out, _ = mlt("settings", "--section", "risk")
    row = next(line for line in out.splitlines() if "max_name_share" in line)
    assert code == 0 and "0.3" in row and "MLT_RISK_MAX_NAME_SHARE" in row


def test_the_doctor_finds_the_desk_and_says_what_is_missing(place, mlt):
    code, out, _ = mlt("doctor")
    assert code == 0 and "1990-01-02 to 2022-12-28" in out and "30 19 * * 1-5" in out
    (place / "settings.ini").write_text("[data]\nsource = files\npath = gone.csv\n")
    code, out, _ = mlt("doctor")
    assert code == 1 and "gone.csv" in out and "missing" in out
