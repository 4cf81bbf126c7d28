"A day of a desk that one line of settings.ini has given to the factor model, on a user's own file."

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlt_lib.data.collect import collect
from mlt_lib.data.sample import closes
from mlt_lib.execution.targets import first_live_session, targets_of
from mlt_lib.jobs.session import recipe_of
from mlt_lib.settings import Settings
from mlt_lib.store.audit import verify
from mlt_lib.store.database import open_database
from mlt_lib.strategies.ensemble import weights

MLT = Path(sys.executable).with_name("mlt")
SETTINGS = (
    "[data]\nsource = files\npath = mine.csv\n[strategy]\nsleeves = ipca\n[report]\ntrack_record_start = 2022-10-03\n"
)


def run(desk: Path, *words: str) -> subprocess.CompletedProcess[str]:
    "Run `mlt` in a desk's folder as a process of its own."
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLT_", "COV_"))}
    return subprocess.run([MLT, *words], cwd=desk, env=kept, capture_output=True, text=True, timeout=240)


@pytest.mark.process
@pytest.mark.timeout(300)
def test_one_line_gives_the_desk_to_the_model_and_live_equals_backtest(tmp_path):
    mine = closes().loc["2011-06-01":].iloc[:, :12]
    mine.columns = [f"MY{k:02d}" for k in range(12)]
    mine.to_csv(tmp_path / "mine.csv")
    (tmp_path / "settings.ini").write_text(SETTINGS)
    ended = run(tmp_path, "daily")
    assert ended.returncode == 0 and ended.stderr == "", ended.stderr
    page = (tmp_path / "reports/report/2022-12-28.html").read_text()
    assert "ensemble of ipca" in page and "MY00" in page

    settings = Settings.find(tmp_path / "settings.ini", environment={})
    engine = open_database(settings.database_url)
    first = first_live_session(engine, "demo", "ensemble")
    live = targets_of(engine, "demo", "ensemble", since=first.date())
    assert verify(engine).ok
    engine.dispose()
    backtested = weights(collect(settings).prices, recipe_of(settings), start="2022-10-03")
    same = backtested.loc[backtested.index >= first, live.columns]
    assert len(live) == 5 and list(live.index) == list(same.index) and live.to_numpy().sum() > 0
    assert int((live.to_numpy() != same.to_numpy()).sum()) == 0


@pytest.mark.process
def test_too_short_a_file_is_one_line_that_names_the_sessions_needed(tmp_path):
    closes().iloc[-1000:].to_csv(tmp_path / "mine.csv")
    (tmp_path / "settings.ini").write_text(SETTINGS)
    ended = run(tmp_path, "daily")
    assert ended.returncode != 0 and not (tmp_path / ".mlt").exists()
    assert ended.stderr.count("\n") == 1 and "1000 sessions" in ended.stderr and "needs 2804" in ended.stderr
