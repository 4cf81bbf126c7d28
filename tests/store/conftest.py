"""The servers that the store runs on: a test that takes `engine` runs on SQLite, PostgreSQL and TimescaleDB.

A server that isn't there skips its third, with the reason. Making and dropping databases is slow, so a process makes two on
each server: the one behind `engine` is emptied before each test, the one behind `new_url` and `blank_url` built anew, and a
test may do with it what it likes. `renew` gives an empty database in the middle of a test: one per example of a property.
"""

import os
import shutil
from contextlib import suppress
from uuid import uuid4

import pytest
import servers
from sqlalchemy import create_engine, make_url, text

from mlt_lib.store.database import open_database
from mlt_lib.store.schema import Record

SERVERS = ("sqlite", "postgres", "timescale")
STARTED = {"postgres": servers.postgres_url, "timescale": servers.timescale_url}
TABLES = [t.name for t in reversed(Record.metadata.sorted_tables)]
# the trail's triggers and the keys rest meanwhile; only a superuser may say so
EMPTY = "SET LOCAL session_replication_role = replica; " + "; ".join(f"DELETE FROM {t}" for t in TABLES)
EMPTY += "; UPDATE audit_tail SET sequence = 0"


class Databases:
    "What this process has made on the servers, and takes away at its end; dropping one is slow, so each is used again."

    def __init__(self, folder):
        self.folder, self.template, self.shared, self.blanks, self.made = folder, None, {}, {}, []

    def admin(self, server, *statements):
        "Say something to a server that can't be said in a transaction."
        url = make_url(STARTED[server]()).set(drivername="postgresql+psycopg")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            found = [connection.execute(text(statement)) for statement in statements]
            told = found[-1].scalars().all() if found[-1].returns_rows else []
        engine.dispose()
        return told

    def make(self, server):
        "The address of a new database without tables."
        if server == "sqlite":
            return f"sqlite:///{self.folder / uuid4().hex[:8]}/state/desk.db"
        if not self.made:
            self.sweep(server)
        name = f"mlt_test_{os.getpid()}_{uuid4().hex[:8]}"
        self.admin(server, f"CREATE DATABASE {name}")
        self.made.append((server, name))
        return make_url(STARTED[server]()).set(database=name).render_as_string(hide_password=False)

    def blank(self, server):
        "The address of a database without tables, the same one each time."
        if server == "sqlite":
            return self.make(server)
        url = self.blanks[server] = self.blanks.get(server) or self.make(server)
        name = make_url(url).database
        self.admin(server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
        return url

    def emptied(self, server):
        "An engine on a database without rows."
        if server == "sqlite":
            if self.template is None:
                self.template = self.make(server)
                open_database(self.template).dispose()
            copy = shutil.copy(make_url(self.template).database, self.folder / f"{uuid4().hex[:8]}.db")
            return open_database(f"sqlite:///{copy}")
        if server not in self.shared:
            self.shared[server] = open_database(self.make(server))
        with self.shared[server].begin() as connection:
            connection.exec_driver_sql(EMPTY)
        return self.shared[server]

    def sweep(self, server):
        "Take away what a process that was killed has left."
        for name in self.admin(server, "SELECT datname FROM pg_database WHERE datname LIKE 'mlt\\_test\\_%'"):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(name.split("_")[2]), 0)
                continue
            self.admin(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def end(self):
        for engine in self.shared.values():
            engine.dispose()
        for server, name in self.made:
            self.admin(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def databases(tmp_path_factory):
    found = Databases(tmp_path_factory.mktemp("databases"))
    yield found
    found.end()


@pytest.fixture(params=SERVERS)
def server(request):
    "sqlite, postgres or timescale, one after the other."
    return request.param


@pytest.fixture
def engine(server, databases):
    "An empty database at the newest revision."
    engine = databases.emptied(server)
    yield engine
    if server == "sqlite":
        engine.dispose()


@pytest.fixture
def renew(server, databases):
    "A call that empties the database, or gives another empty one."
    made = []

    def emptied():
        made.append(databases.emptied(server))
        return made[-1]

    yield emptied
    for engine in made:
        engine.dispose()


@pytest.fixture
def blank_url(server, databases):
    "The address of a database without tables, to be altered at will."
    return databases.blank(server)


@pytest.fixture
def new_url(blank_url):
    "The address of an empty database at the newest revision, to be altered at will."
    open_database(blank_url).dispose()
    return blank_url
