"Receipts of runs: ids that sort, ends that come once, hashes that mean the same code."

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest

import mlt_lib
from mlt_lib.errors import StoreError
from mlt_lib.store.runs import code_hash, finish_run, interrupt_stale, runs_frame, start_run

DAY = dt.date(2022, 12, 28)


def begin(engine, job="trade", namespace="demo", **parameters) -> str:
    return start_run(engine, job, namespace, DAY, parameters, "c", "d", "s")


def test_a_receipt_from_start_to_end(engine):
    run_id = begin(engine, top=10, session=DAY)
    row = runs_frame(engine).iloc[0]
    assert (row.run_id, row.status) == (run_id, "running") and row.isna().ended
    assert json.loads(row.parameters) == {"session": "2022-12-28", "top": 10}
    finish_run(engine, run_id, "done", notebook="runs/x.ipynb", report="reports/trade/2022-12-28.html", data_hash="d2")
    row = runs_frame(engine).iloc[0]
    assert (row.status, row.report, row.data_hash, row.session) == ("done", "reports/trade/2022-12-28.html", "d2", DAY)
    assert row.started <= row.ended and str(row.ended.tz) == "UTC"


def test_ids_are_unique_and_sort_by_time(engine):
    ids = [begin(engine, job) for job in ("trade", "report", "ingest") * 10]
    assert len(set(ids)) == 30 and sorted(ids) == ids
    assert list(runs_frame(engine).run_id) == ids[::-1]


def test_a_run_ends_once(engine):
    run_id = begin(engine)
    finish_run(engine, run_id, "failed", "the broker can't be reached")
    with pytest.raises(StoreError, match="has already ended as failed"):
        finish_run(engine, run_id, "done")
    assert runs_frame(engine).iloc[0].status == "failed"
    with pytest.raises(StoreError, match="was never started"):
        finish_run(engine, "nobody", "done")


@pytest.mark.parametrize("status", ["running", "ok", ""])
def test_a_run_ends_in_a_known_way(engine, status):
    run_id = begin(engine)
    with pytest.raises(StoreError, match="done, failed, interrupted"):
        finish_run(engine, run_id, status)


def test_what_was_killed_is_marked_and_the_rest_left_alone(engine):
    killed, other, ended = begin(engine), begin(engine, "report"), begin(engine)
    finish_run(engine, ended, "done")
    assert interrupt_stale(engine, "trade") == 1
    assert interrupt_stale(engine, "trade") == 0
    status = runs_frame(engine).set_index("run_id").status
    assert status.to_dict() == {killed: "interrupted", other: "running", ended: "done"}


def test_a_namespace_can_be_asked_for(engine):
    begin(engine), begin(engine, namespace="replay-1")
    assert list(runs_frame(engine, "replay-1").namespace) == ["replay-1"]


def test_no_runs_is_an_empty_frame_of_the_same_shape(engine):
    empty = runs_frame(engine)
    begin(engine)
    assert len(empty) == 0 and list(empty.columns) == list(runs_frame(engine).columns)
    assert str(empty.started.dtype).endswith("UTC]")


# the hash of the code


@pytest.fixture
def fresh(monkeypatch):
    "code_hash of another place, not remembered."

    def at(package: Path) -> str:
        monkeypatch.setattr(mlt_lib, "__path__", [str(package)])
        return code_hash.__wrapped__()

    return at


def lay(package: Path, jobs: Path, source="x = 1\n", cell="y = 2", output="3") -> Path:
    "A little library and a job notebook."
    for folder in (package / "risk", jobs):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    (package / "risk/tails.py").write_text(source)
    cells = [
        {"cell_type": "code", "source": [cell], "outputs": [output]},
        {"cell_type": "markdown", "source": ["words"]},
    ]
    (jobs / "trade.ipynb").write_text(json.dumps({"cells": cells}))
    return package


def test_the_hash_is_of_the_code_and_not_of_outputs(tmp_path, fresh):
    place, jobs = tmp_path / "mlt_lib", tmp_path / "nbs/jobs"
    first = fresh(lay(place, jobs))
    assert fresh(lay(place, jobs, output="4")) == first
    assert fresh(lay(place, jobs, source="x = 2\n")) != first
    assert fresh(lay(place, jobs, cell="y = 3")) != first
    shutil.move(place / "risk/tails.py", place / "risk/heads.py")
    assert fresh(place) != first


def test_checkout_and_wheel_agree(tmp_path, fresh):
    checkout = fresh(lay(tmp_path / "a/mlt_lib", tmp_path / "a/nbs/jobs"))
    wheel = lay(tmp_path / "b/mlt_lib", tmp_path / "b/mlt_lib/assets/jobs")
    (wheel / "assets/migrations").mkdir()
    (wheel / "assets/migrations/env.py").write_text("# not a module\n")
    assert fresh(wheel) == checkout


def test_the_hash_is_remembered():
    assert code_hash() is code_hash() and len(code_hash()) == 64


def test_a_library_without_jobs_has_a_hash_too(tmp_path, fresh):
    place = lay(tmp_path / "mlt_lib", tmp_path / "nbs/jobs")
    whole = fresh(place)
    shutil.rmtree(tmp_path / "nbs")
    assert fresh(place) != whole
