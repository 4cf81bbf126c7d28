"The image, the compose file and how a container logs in: what can be shown without running one."

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import servers
import yaml

ROOT = Path(__file__).parents[2]
START = ROOT / "deploy/container/start.sh"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
sys.path.insert(0, str(ROOT / "deploy/services"))
from cluster import Cluster, free_port, programs  # noqa: E402

# logging in


@pytest.fixture(scope="module")
def strict():
    "A server that asks for passwords and logs every statement."
    servers.postgres_url()
    folder = Path(tempfile.mkdtemp(prefix="mlt-strict-", dir="/var/tmp"))
    os.chmod(folder, 0o755)
    cluster = Cluster(programs(), folder / "server", free_port(), options=("fsync=off", "log_statement=all"))
    cluster.make()
    rules = cluster.place / "data/pg_hba.conf"
    rules.write_text("host all quant 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    cluster.start().create_database()
    yield cluster
    cluster.remove()
    shutil.rmtree(folder)


def started(*words: str, **environment: str) -> subprocess.CompletedProcess:
    "A container's first process, without the container."
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "MLT_"))} | environment
    return subprocess.run(["sh", str(START), *words], env=kept, capture_output=True, text=True)


LOGIN = "import psycopg, sys; print(psycopg.connect(sys.argv[1]).execute('SELECT current_user').fetchone()[0])"


@pytest.mark.process
@pytest.mark.parametrize("password", ["simple", r"a:b\c: \\d'\"e", "ümläut $HOME `id`"])
def test_a_password_in_a_mounted_file_opens_the_database_and_shows_nowhere(strict, tmp_path, password):
    setup = ROOT / "deploy/timescale/setup_database.sql"
    psql = shutil.which("psql") or pytest.skip("no psql: install PostgreSQL's client")
    subprocess.run(
        [psql, "-X", "-q", "-d", strict.url, "-f", setup],
        env=os.environ | {"MLT_WRITER_PASSWORD": password},
        check=True,
        capture_output=True,
    )
    (tmp_path / "secret").write_text(password + "\n")
    url = strict.url.replace("quant@", "mlt_writer@")
    said = started(
        sys.executable, "-c", LOGIN, url, DATABASE_PASSWORD_FILE=str(tmp_path / "secret"), TMPDIR=str(tmp_path)
    )
    assert said.stdout.strip() == "mlt_writer", said.stderr
    assert password not in (strict.place / "server.log").read_text()
    (tmp_path / "other").write_text("wrong")
    said = started(
        sys.executable, "-c", LOGIN, url, DATABASE_PASSWORD_FILE=str(tmp_path / "other"), TMPDIR=str(tmp_path)
    )
    assert said.returncode and "password authentication failed" in said.stderr
    with pytest.raises(psycopg.OperationalError, match="no password"):
        psycopg.connect(url, passfile="/dev/null")


def test_the_password_is_in_no_variable_and_in_a_file_of_ones_own(tmp_path):
    (tmp_path / "secret").write_text("hidden")
    given = {"DATABASE_PASSWORD_FILE": str(tmp_path / "secret"), "TMPDIR": str(tmp_path)}
    for _ in range(2):  # as the health check does beside the job
        said = started("sh", "-c", 'env; stat -c "%a" "$PGPASSFILE"', **given)
        assert said.returncode == 0 and "hidden" not in said.stdout and said.stdout.endswith("600\n")
    (folder,) = tmp_path.glob("desk-*")
    assert [path.name for path in folder.iterdir()] == ["pgpass"] and folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_somebody_else_laid_there_is_refused(tmp_path):
    (tmp_path / "secret").write_text("hidden")
    (tmp_path / "desk-0").mkdir()
    os.chown(tmp_path / "desk-0", 65534, 65534)
    said = started("true", DATABASE_PASSWORD_FILE=str(tmp_path / "secret"), TMPDIR=str(tmp_path))
    assert said.returncode == 2 and "belongs to somebody else" in said.stderr
    assert not any((tmp_path / "desk-0").iterdir())


@pytest.mark.parametrize("content", [None, "", "\n"])
@pytest.mark.parametrize(("word", "variable"), [("true", "DATABASE_PASSWORD_FILE"), ("lab", "JUPYTER_TOKEN_FILE")])
def test_a_missing_secret_is_said_at_once(tmp_path, word, variable, content):
    "An empty token would open JupyterLab to everybody."
    if content is not None:
        (tmp_path / "secret").write_text(content)
    said = started(word, **{variable: str(tmp_path / "secret")})
    assert said.returncode == 2 and "secret is empty or missing" in said.stderr


@pytest.mark.process
def test_migrate_brings_the_tables(tmp_path):
    "The container's word `migrate`, on a database of its own."
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    url = f"sqlite:///{tmp_path}/desk.db"
    said = started("migrate", PATH=path, MLT_DATA_DATABASE_URL=url, MLT_SETTINGS=str(ROOT / "settings.ini"))
    assert said.returncode == 0 and "up to date" in said.stdout, said.stderr
    assert (tmp_path / "desk.db").exists()


@pytest.mark.process
def test_the_lab_opens_with_the_token_of_the_mounted_file_and_with_no_other(tmp_path):
    "The container's word `lab`, on a port of its own."
    (tmp_path / "token").write_text("a-token\n")
    port, path = free_port(), f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = tmp_path / "start.sh"
    script.write_text(
        START.read_text().replace("0.0.0.0", "127.0.0.1").replace("8888", str(port)).replace("/desk", str(tmp_path))
    )
    kept = os.environ | {"PATH": path, "JUPYTER_TOKEN_FILE": str(tmp_path / "token"), "TMPDIR": str(tmp_path)}
    kept |= {f"JUPYTER_{place}_DIR": str(tmp_path / place) for place in ("DATA", "RUNTIME", "CONFIG")}
    root = ["--allow-root"] if os.geteuid() == 0 else []
    script.write_text(script.read_text().replace("jupyter lab", " ".join(["jupyter lab", *root])))
    with subprocess.Popen(
        ["sh", str(script), "lab"], env=kept, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as lab:
        try:
            address, until = f"http://127.0.0.1:{port}/api", time.monotonic() + 120
            while time.monotonic() < until and lab.poll() is None:
                with suppress(OSError):
                    urllib.request.urlopen(address, timeout=5).close()  # what the health check asks
                    break
                time.sleep(0.2)
            asked = urllib.request.Request(f"{address}/contents", headers={"Authorization": "token a-token"})
            assert urllib.request.urlopen(asked, timeout=30).status == 200
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(f"{address}/contents", timeout=30)
        finally:
            lab.terminate()


# the compose file


def compose(*words: str, **environment: str) -> subprocess.CompletedProcess:
    plugin = os.environ.get("MLT_TEST_COMPOSE", "")
    if not plugin and not (shutil.which("docker") and not subprocess.run(["docker", "compose", "version"]).returncode):
        pytest.skip("no docker compose")
    command = [plugin] if plugin else ["docker", "compose"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLT_")} | environment
    return subprocess.run(
        [*command, "-f", str(ROOT / "docker-compose.yml"), *words], env=kept, capture_output=True, text=True
    )


def test_compose_refuses_to_begin_without_the_secrets_and_accepts_the_file_with_them():
    refused = compose("config", "--quiet")
    assert refused.returncode and "MLT_SECRETS" in refused.stderr and "make secrets" in refused.stderr
    accepted = compose("config", "--quiet", MLT_SECRETS=".secrets")
    assert accepted.returncode == 0, accepted.stderr


def test_nothing_is_published_beyond_this_machine_and_the_database_not_at_all():
    ports = {name: service["ports"] for name, service in COMPOSE["services"].items() if service.get("ports")}
    assert set(ports) == {"lab"} and all(port.startswith("127.0.0.1:") for port in ports["lab"])
    assert COMPOSE["services"]["timescaledb"]["networks"] == ["inside"] and COMPOSE["networks"]["inside"]["internal"]


def test_no_password_stands_in_the_file():
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("${MLT_SECRETS:?")
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|TOKEN|SECRET|KEY", name) or (
                name.endswith("_FILE") and value.startswith("/run/secrets/")
            )
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), name


def test_every_service_that_stays_has_a_health_check_and_waits_for_what_it_needs():
    services = COMPOSE["services"]
    staying = {name for name, service in services.items() if service.get("restart") == "unless-stopped"}
    assert staying == {"timescaledb", "lab"} and all("test" in services[name]["healthcheck"] for name in staying)
    needs = {name: service.get("depends_on", {}) for name, service in services.items()}
    assert needs["roles"] == {"timescaledb": {"condition": "service_healthy"}}
    assert needs["migrate"] == {"roles": {"condition": "service_completed_successfully"}}
    assert needs["daily"] == needs["lab"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_each_service_is_the_role_it_should_be():
    users = {
        name: re.search(r"//(\w+)@", service["environment"]["MLT_DATA_DATABASE_URL"])[1]
        for name, service in COMPOSE["services"].items()
        if "MLT_DATA_DATABASE_URL" in service.get("environment", {})
    }
    assert users == {"migrate": "mlt_migrator", "daily": "mlt_writer", "lab": "mlt_reader"}
    for name, user in users.items():
        role = user.removeprefix("mlt_")
        assert COMPOSE["services"][name]["environment"]["DATABASE_PASSWORD_FILE"].endswith(f"/{role}_password")
        assert "admin_password" not in COMPOSE["services"][name]["secrets"]


# the image


def test_what_runs_is_nobodys_root_and_holds_only_what_has_a_hash():
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    making, running = text.split("FROM ${PYTHON} AS desk")
    assert re.search(r"^USER 10001", running, re.M) and re.search(r"^HEALTHCHECK ", running, re.M)
    for line in re.findall(r"^RUN .*pip .*$|^ && .*pip .*$", text, re.M):
        assert "--require-hashes" in line or "--no-deps" in line, line
    assert "pip" not in running.replace("pipe", "") and not re.search(r"gcc|build-essential|-dev\b", running)
    assert not re.search(r"https?://", text.replace("# syntax=docker/dockerfile:1", "")), "no registry's host"


def test_the_image_is_given_nothing_but_what_it_needs():
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignored and not {"!.", "!.git", "!.mlt", "!.secrets", "!reports"} & set(ignored)
