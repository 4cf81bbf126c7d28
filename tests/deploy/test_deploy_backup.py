"The runbook's way to back up and restore: tables, rows, roles' rights and the audit trail come back on a new database."

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
import pytest
import servers
from sqlalchemy import make_url

from mlt_lib.store import audit
from mlt_lib.store.database import open_database, transaction

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "deploy/services"))
from cluster import programs  # noqa: E402
from up import KEPT, TIMESCALE  # noqa: E402


def tools(version: int) -> list[str]:
    "How to call the client programs of a server's own version; they may lie in the chroot."
    place = programs()
    if place:
        told = subprocess.run([place / "pg_dump", "--version"], capture_output=True, text=True).stdout
        if int(re.search(r"(\d+)\.", told)[1]) == version:
            return [f"{place}/"]
    if version == int(TIMESCALE.name) and os.geteuid() == 0 and (KEPT / "trixie").exists():
        return ["chroot", str(KEPT / "trixie"), f"{TIMESCALE}/bin/"]
    pytest.skip(f"no pg_dump of version {version}")


def call(tools: list[str], program: str, *words: str, input: bytes = b"") -> bytes:
    ended = subprocess.run([*tools[:-1], tools[-1] + program, *words], input=input, capture_output=True, cwd="/")
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout


@pytest.mark.process
@pytest.mark.parametrize("server", ["postgres", "timescale"])
def test_what_the_runbook_restores_is_what_was_backed_up(server):
    url = getattr(servers, f"{server}_url")()
    psql = shutil.which("psql") or pytest.skip("no psql: install PostgreSQL's client")
    old, new = (f"mlt_test_{os.getpid()}_{uuid.uuid4().hex[:8]}" for _ in range(2))
    setup = ROOT / "deploy/timescale/setup_database.sql"

    def address(name: str, role: str = "") -> str:
        told = make_url(url).set(database=name)
        return (told.set(username=role) if role else told).render_as_string(hide_password=False)

    def run_setup(name: str) -> None:
        subprocess.run([psql, "-X", "-q", "-d", address(name), "-f", setup], check=True, capture_output=True)

    with psycopg.connect(url, autocommit=True) as admin:
        found = tools(admin.info.server_version // 10_000)
        try:
            admin.execute(f"CREATE DATABASE {old}")
            run_setup(old)
            engine = open_database(address(old))
            with engine.begin() as connection:
                connection.exec_driver_sql(
                    "INSERT INTO bars (source, symbol, session, recorded_time, event_time, known_time, close) "
                    "SELECT 'test', 'AAPL', day::date, day, day, day, 1 "
                    "FROM generate_series('2020-01-01'::timestamptz, '2022-12-31', '1 day') AS day"
                )
            with transaction(engine) as session:
                audit.append(session, "test.began", {"day": dt.date(2022, 12, 28)}, namespace="demo", actor="test")
            head = audit.head(engine)
            engine.dispose()
            dump = call(found, "pg_dump", "-Fc", "-d", address(old))

            admin.execute(f"CREATE DATABASE {new}")
            with psycopg.connect(address(new), autocommit=True) as restored:
                if server == "timescale":
                    restored.execute("CREATE EXTENSION timescaledb")
                    restored.execute("SELECT timescaledb_pre_restore()")
                call(found, "pg_restore", "--exit-on-error", "-d", address(new), input=dump)
                if server == "timescale":
                    restored.execute("SELECT timescaledb_post_restore()")
            run_setup(new)
            engine = open_database(address(new), create=False)
            verified = audit.verify(engine, head)
            engine.dispose()
            assert verified.ok and verified.head == head
            with psycopg.connect(address(new)) as restored:
                assert restored.execute("SELECT count(*), min(session), max(session) FROM bars").fetchone() == (
                    1096,
                    dt.date(2020, 1, 1),
                    dt.date(2022, 12, 31),
                )
                allowed = "SELECT has_table_privilege('mlt_writer', 'bars', 'INSERT'), has_table_privilege('mlt_writer', 'bars', 'DELETE')"
                assert restored.execute(allowed).fetchone() == (True, False)
                assert restored.execute("SELECT count(*) FROM pg_event_trigger WHERE evtname ~ '^keep'").fetchone() == (
                    1,
                )
        finally:
            for name in (old, new):
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
