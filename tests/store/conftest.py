"""The servers that the store runs on: a test that takes `engine` runs on SQLite, PostgreSQL and TimescaleDB.

A server that isn't there skips its third, with the reason. Building a database takes a quarter of a second, so each is built
once per process and copied: `engine` is a copy that is emptied between tests, `new_url` one of a test's own, to be altered
at will. `renew` gives an empty database again in the middle of a test, for properties that need one per example.
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
    "What this process has made on the servers, and takes away at its end."

    def __init__(self, folder):
        self.folder, self.templates, self.shared, self.made = folder, {}, {}, []

    def admin(self, server, *statements):
        "Say something to a server that can't be said in a transaction."
        engine = create_engine(
            make_url(STARTED[server]()).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            found = [connection.execute(text(statement)) for statement in statements]
            told = found[-1].scalars().all() if found[-1].returns_rows else []
        engine.dispose()
        return told

    def make(self, server, template=None):
        "A new database; empty, or a copy."
        name = f"mlt_test_{os.getpid()}_{uuid4().hex[:8]}"
        self.admin(server, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        self.made.append((server, name))
        return make_url(STARTED[server]()).set(database=name).render_as_string(hide_password=False)

    def template(self, server):
        "A database at the newest revision that nobody writes to."
        if server not in self.templates:
            self.sweep(server)
            url = f"sqlite:///{self.folder}/template.db" if server == "sqlite" else self.make(server)
            engine = open_database(url)
            if server == "timescale":  # its scheduler would hold the database open
                with engine.begin() as connection:
                    connection.execute(text("SELECT _timescaledb_functions.stop_background_workers()"))
            engine.dispose()
            self.templates[server] = make_url(url).database
        return self.templates[server]

    def copy(self, server):
        "The address of a database of one's own, at the newest revision."
        if server == "sqlite":
            return f"sqlite:///{shutil.copy(self.template(server), self.folder / f'{uuid4().hex[:8]}.db')}"
        return self.make(server, self.template(server))

    def emptied(self, server):
        "An engine on a database without rows."
        if server == "sqlite":
            engine = open_database(self.copy(server))
            self.made.append((server, engine))
            return engine
        if server not in self.shared:
            self.shared[server] = open_database(self.copy(server))
        with self.shared[server].begin() as connection:
            connection.exec_driver_sql(EMPTY)
        return self.shared[server]

    def sweep(self, server):
        "Take away what a process that was killed has left."
        if server == "sqlite":
            return
        for name in self.admin(server, "SELECT datname FROM pg_database WHERE datname LIKE 'mlt\\_test\\_%'"):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(name.split("_")[2]), 0)
                continue
            self.admin(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def end(self):
        for engine in self.shared.values():
            engine.dispose()
        for server, thing in self.made:
            if server == "sqlite":
                thing.dispose()
            else:
                self.admin(server, f"DROP DATABASE IF EXISTS {thing} WITH (FORCE)")


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
    return lambda: databases.emptied(server)


@pytest.fixture
def new_url(server, databases):
    "The address of an empty database at the newest revision, of this test alone."
    return databases.copy(server)


@pytest.fixture
def blank_url(server, databases, tmp_path):
    "The address of a database without tables."
    return f"sqlite:///{tmp_path}/state/desk.db" if server == "sqlite" else databases.make(server)
