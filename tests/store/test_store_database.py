"The database: built by its migrations, strict about whose it is, all or nothing."

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import func, inspect, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

import mlt_lib
from mlt_lib.errors import StoreError
from mlt_lib.store import database
from mlt_lib.store.database import make_engine, migrations_folder, open_database, snapshot, transaction
from mlt_lib.store.schema import Instrument

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "desk.db"


@pytest.fixture
def file(path):
    "A desk's database in a file, whatever else there is."
    engine = open_database(f"sqlite:///{path}")
    yield engine
    engine.dispose()


INTENT = "'demo','a','s','2022-01-03','AAPL',0,0,'buy','1','market','cls',NULL,'1',0,0,'h','INTENT',0,NULL,NULL,'0','t','t','t'"


def apple() -> Instrument:
    return Instrument(symbol="AAPL", name="Apple", source="test")


def count(engine) -> int:
    with snapshot(engine) as session:
        return session.scalar(select(func.count()).select_from(Instrument))


# models and migrations


def later_release(tmp_path, body: str) -> Path:
    "The desk's migrations and one more."
    folder = tmp_path / "migrations"
    shutil.copytree(migrations_folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions/0003_more.py").write_text(
        f"import sqlalchemy as sa\nfrom alembic import op\nrevision, down_revision = '0003', '0002'\n"
        f"branch_labels = depends_on = None\ndef upgrade():\n{body}\n"
    )
    return folder


def test_an_older_database_is_brought_up_with_its_rows(file, path, tmp_path):
    with transaction(file) as session:
        session.add(apple())
    file.dispose()
    body = "    with op.batch_alter_table('instruments') as t:\n        t.add_column(sa.Column('sector', sa.Text()))"
    newer = open_database(f"sqlite:///{path}", folder=later_release(tmp_path, body))
    assert "sector" in [c["name"] for c in inspect(newer).get_columns("instruments")]
    assert count(newer) == 1
    with newer.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    newer.dispose()
    with pytest.raises(StoreError, match=r"made by a newer version \(revision 0003\); upgrade mlt_lib or choose"):
        open_database(f"sqlite:///{path}")


def test_a_migration_that_breaks_leaves_nothing_behind(file, path, tmp_path):
    file.dispose()
    folder = later_release(
        tmp_path, "    op.create_table('half', sa.Column('a', sa.Text()))\n    raise OSError('pulled')"
    )
    with pytest.raises(OSError, match="pulled"):
        open_database(f"sqlite:///{path}", folder=folder)
    again = open_database(f"sqlite:///{path}")
    assert "half" not in inspect(again).get_table_names()
    again.dispose()


@pytest.mark.process
def test_a_process_killed_while_migrating_leaves_nothing_behind(file, path, tmp_path):
    with transaction(file) as session:
        session.add(apple())
    file.dispose()
    body = "    op.create_table('half', sa.Column('a', sa.Text()))\n    import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    folder = later_release(tmp_path, body)
    code = f"from pathlib import Path; from mlt_lib.store.database import open_database as o; o('sqlite:///{path}', folder=Path('{folder}'))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -9
    again = open_database(f"sqlite:///{path}")
    assert "half" not in inspect(again).get_table_names() and count(again) == 1
    again.dispose()


def test_a_migration_that_orphans_rows_is_taken_back(file, path, tmp_path):
    with transaction(file) as session:
        session.add(apple())
        session.flush()
        session.execute(text(f"INSERT INTO order_intents VALUES ('o1',{INTENT})"))
        session.execute(text("INSERT INTO fills VALUES ('f1','demo','o1','AAPL','buy','1','1','2022-01-03','t','t')"))
    file.dispose()
    folder = later_release(tmp_path, "    op.execute('DELETE FROM order_intents')")
    with pytest.raises(StoreError, match="would orphan rows of fills"):
        open_database(f"sqlite:///{path}", folder=folder)
    again = open_database(f"sqlite:///{path}")
    assert count(again) == 1
    again.dispose()


def test_a_new_database_whose_building_broke_is_built_next_time(path, tmp_path):
    folder = later_release(tmp_path, "    raise OSError('pulled')")
    with pytest.raises(OSError, match="pulled"):
        open_database(f"sqlite:///{path}", folder=folder)
    engine = open_database(f"sqlite:///{path}")
    assert count(engine) == 0
    engine.dispose()


def test_an_installed_desk_migrates_from_its_package(tmp_path, monkeypatch):
    package = tmp_path / "site/mlt_lib"
    shutil.copytree(ROOT / "migrations", package / "assets/migrations")
    monkeypatch.setattr(mlt_lib, "__path__", [str(package)])
    assert migrations_folder() == package / "assets/migrations"
    engine = open_database(f"sqlite:///{tmp_path}/100%/desk.db")
    assert count(engine) == 0
    engine.dispose()


# whose database it is


def test_sqlite_is_set_straight_on_every_connection(file):
    with file.connect() as one, file.connect() as two:
        for connection in (one, two):
            asked = [
                connection.exec_driver_sql(f"PRAGMA {p}").scalar()
                for p in ("synchronous", "foreign_keys", "busy_timeout")
            ]
            assert asked == [2, 1, 5000]
        assert one.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_another_programs_database_is_refused_untouched(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE guests (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"desk\.db isn't the desk's: it holds guests and no revision"):
        open_database(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"symbol,close\nAAPL,1.0\n" * 100, os.urandom(4096)], ids=["csv", "noise"])
def test_a_file_that_is_no_database(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"desk\.db isn't an SQLite database. Move the file away or choose"):
        open_database(f"sqlite:///{path}")
    assert path.read_bytes() == content


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_database_cut_short(file, path, share):
    file.dispose()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(StoreError, match="is damaged or cut short. Restore a copy"):
        open_database(f"sqlite:///{path}")


def test_no_database_and_none_wanted(path):
    with pytest.raises(StoreError, match=r"there is no database at .*desk\.db; run `mlt daily`"):
        open_database(f"sqlite:///{path}", create=False)
    assert not path.parent.exists()
    path.parent.mkdir()
    path.touch()
    with pytest.raises(StoreError, match="is empty"):
        open_database(f"sqlite:///{path}", create=False)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url):
    with pytest.raises(StoreError, match="name a file"):
        open_database(url)


@pytest.mark.parametrize("url", ["desk.db", "nosuch://x/y", "sqlite:/desk"])
def test_no_address_of_a_database(url):
    with pytest.raises(StoreError, match="no database address"):
        open_database(url)


def test_a_driver_that_is_not_installed():
    with pytest.raises(StoreError, match="no driver for mysql"):
        open_database("mysql+pymysql://desk:secret@127.0.0.1/desk")


def test_a_password_is_not_shown():
    assert "secret" not in database.named(make_url("postgresql://desk:secret@db/desk"))


def test_a_place_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be made"):
        open_database(f"sqlite:///{tmp_path}/file/desk.db")


def test_a_folder_in_the_place_of_the_file(path):
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match="can't be opened"):
        open_database(f"sqlite:///{path}")


@pytest.mark.process
@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX knows them")
@pytest.mark.parametrize("exists", [False, True], ids=["new", "existing"])
def test_a_folder_that_may_not_be_written(exists):
    "Run as nobody where the tests run as root, whom no permission stops."
    with tempfile.TemporaryDirectory() as outer:  # pytest's own folders are closed to others
        Path(outer).chmod(0o755)
        place = Path(outer) / "locked"
        place.mkdir()
        if exists:
            open_database(f"sqlite:///{place}/desk.db").dispose()
        place.chmod(0o555)
        code = f"""
import os, sqlite3
from mlt_lib.errors import StoreError
from mlt_lib.store.database import open_database, transaction
from mlt_lib.store.schema import Instrument
if os.getuid() == 0: os.setuid(65534)
try:
    engine = open_database("sqlite:///{place}/desk.db")
    with transaction(engine) as session: session.add(Instrument(symbol="A", name="A", source="t"))
except StoreError as error: print(error)
"""
        said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        place.chmod(0o755)
        assert "can't be opened" in said.stdout or "can't be written" in said.stdout, said


# all or nothing


def test_an_exception_takes_everything_back(engine):
    with pytest.raises(KeyboardInterrupt), transaction(engine) as session:
        session.add(apple())
        session.flush()
        raise KeyboardInterrupt
    assert count(engine) == 0


def test_rows_stay_readable_after_the_commit(engine):
    with transaction(engine) as session:
        row = apple()
        session.add(row)
    assert (row.symbol, row.currency) == ("AAPL", "USD")


def test_foreign_keys_and_checks_are_enforced(engine):
    with pytest.raises(IntegrityError), transaction(engine) as session:
        session.execute(
            text(
                "INSERT INTO fills VALUES ('f1','demo','none','AAPL','buy','1','1','2022-01-03',CURRENT_TIMESTAMP,CURRENT_TIMESTAMP)"
            )
        )
    with pytest.raises(IntegrityError), transaction(engine) as session:
        session.execute(
            text(
                "INSERT INTO runs (run_id,job,namespace,status,code_hash,data_hash,settings_hash,parameters,started) "
                "VALUES ('1','j','n','gone','','','','{}',CURRENT_TIMESTAMP)"
            )
        )


def test_a_defect_of_ours_keeps_its_traceback(engine):
    with pytest.raises(DBAPIError, match="nowhere"), transaction(engine) as session:
        session.execute(text("SELECT * FROM nowhere"))


def test_two_writers_take_turns_from_the_first_line(engine):
    "Both read, add one and write: without the lock at BEGIN one of them would overwrite the other or fail."
    with transaction(engine) as session:
        session.add(Instrument(symbol="N", name="0", source="test"))

    def add():
        for _ in range(20):
            with transaction(engine) as session:
                row = session.get_one(Instrument, "N")
                row.name = str(int(row.name) + 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    with snapshot(engine) as session:
        assert session.get_one(Instrument, "N").name == "80"


def test_a_reader_sees_one_moment_and_waits_for_nobody(engine):
    with snapshot(engine) as reader:
        before = reader.scalar(select(func.count()).select_from(Instrument))
        with transaction(engine) as session:
            session.add(apple())
        assert reader.scalar(select(func.count()).select_from(Instrument)) == before == 0
    assert count(engine) == 1


def test_a_locked_database_says_so_after_its_patience(file, path):
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    hasty = make_engine(f"sqlite:///{path}", busy_seconds=0.2)
    start = time.perf_counter()
    with (
        pytest.raises(StoreError, match=r"desk\.db is busy: another process .* Wait until"),
        transaction(hasty) as session,
    ):
        session.add(apple())
    assert 0.15 < time.perf_counter() - start < 3
    holder.execute("ROLLBACK")
    holder.close()
    with transaction(hasty) as session:
        session.add(apple())
    hasty.dispose()
    assert count(file) == 1


def test_a_new_database_is_built_while_locked_by_nobody_else(path):
    path.parent.mkdir()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="is busy"):
        open_database(f"sqlite:///{path}", busy_seconds=0.1)
    holder.close()


@pytest.mark.process
def test_opening_again_leaves_alembic_alone(file, path):
    code = (
        f"import sys; from mlt_lib.store.database import open_database as o; o('sqlite:///{path}'); "
        f"print([m for m in ('alembic', 'pandas', 'exchange_calendars') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"
