"The servers of the tests: up with one command that returns, the same when asked again, gone when told."

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
import servers

DEPLOY = Path(__file__).parents[2] / "deploy"
PYTHON, SYSTEM = Path(sys.executable).resolve(), Path("/usr/bin/python3")  # the scripts need nothing but Python itself
NOBODY = "65534"


@pytest.fixture
def checkout():
    "A checkout of its own that any user may enter; its servers end with the test."
    servers.postgres_url()  # where there is none, there is nothing to start either
    with tempfile.TemporaryDirectory(prefix="mlt-checkout-") as folder:
        os.chmod(folder, 0o777)
        shutil.copytree(DEPLOY, Path(folder, "deploy"), ignore=shutil.ignore_patterns("__pycache__"))
        try:
            yield Path(folder)
        finally:
            command(Path(folder), "down.py")


def command(checkout: Path, script: str, *, user: str = "", **environment: str) -> subprocess.CompletedProcess:
    "Run a script as make does, through a pipe: a server that kept it open would hold us here."
    words = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"] if user else []
    python = SYSTEM if user else PYTHON  # ours may lie where nobody else may go
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLT_")} | environment
    words = [*words, str(python), str(checkout / "deploy/services" / script)]
    return subprocess.run(words, env=kept, cwd=checkout, capture_output=True, text=True, timeout=120)


def answer(url: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT 1").fetchone()[0]


@pytest.mark.process
def test_up_twice_is_up_once_and_down_is_down(checkout):
    first = command(checkout, "up.py")
    assert first.returncode == 0, first.stdout + first.stderr
    urls = json.loads((checkout / ".services/urls.json").read_text())
    assert urls and all(answer(url) == 1 for url in urls.values())
    assert all("127.0.0.1" in url and url in first.stdout for url in urls.values())
    again = command(checkout, "up.py")
    assert again.stdout.count("(was up)") == len(urls)
    assert json.loads((checkout / ".services/urls.json").read_text()) == urls
    assert command(checkout, "down.py").returncode == 0
    for url in urls.values():
        with pytest.raises(psycopg.OperationalError):
            answer(url)
    assert not (checkout / ".services/urls.json").exists()


@pytest.mark.process
def test_a_server_that_was_killed_is_made_anew(checkout):
    command(checkout, "up.py", MLT_TEST_TIMESCALE_URL="postgresql://elsewhere/quant")
    (url,) = json.loads((checkout / ".services/urls.json").read_text()).values()
    with psycopg.connect(url) as connection:
        folder = connection.execute("SHOW data_directory").fetchone()[0]
    os.kill(int(Path(folder, "postmaster.pid").read_text().split()[0]), 9)
    again = command(checkout, "up.py", MLT_TEST_TIMESCALE_URL="postgresql://elsewhere/quant")
    assert again.returncode == 0 and "was up" not in again.stdout, again.stdout
    (url,) = json.loads((checkout / ".services/urls.json").read_text()).values()
    assert answer(url) == 1


@pytest.mark.process
@pytest.mark.skipif(os.geteuid() != 0 or not SYSTEM.exists(), reason="only root can become somebody else")
def test_somebody_else_than_root_gets_what_can_be_had_and_hears_what_cannot(checkout):
    said = command(checkout, "up.py", user=NOBODY, HOME=str(checkout))
    assert said.returncode == 0, said.stderr
    urls = json.loads((checkout / ".services/urls.json").read_text())
    assert answer(urls["postgres"]) == 1
    assert "timescale" not in urls and re.search(r"^timescale +can't be had: its chroot needs root", said.stdout, re.M)
    required = command(checkout, "up.py", user=NOBODY, HOME=str(checkout), MLT_REQUIRE_SERVICES="1")
    assert required.returncode == 1
    command(checkout, "down.py", user=NOBODY, HOME=str(checkout))


def test_a_server_that_is_missing_skips_and_where_it_is_required_fails(monkeypatch):
    monkeypatch.setattr(servers, "found", lambda name: ("", "no PostgreSQL: run `make services`"))
    monkeypatch.delenv("MLT_REQUIRE_SERVICES", raising=False)
    monkeypatch.delenv("MLT_TEST_POSTGRES_URL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make services"):
        servers.postgres_url()
    monkeypatch.setenv("MLT_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="make services"):
        servers.postgres_url()
