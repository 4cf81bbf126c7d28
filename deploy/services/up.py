"""Bring up the servers that the tests want, and write down where they are.

PostgreSQL comes from what is installed, else from Debian; TimescaleDB (Apache edition) from Debian trixie, in a chroot that
is made once and kept. Both listen on loopback only, on ports that were free, and hold nothing worth keeping. What can't be
had is said in one line and is no failure: the tests that want it skip and say so.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cluster import Cluster, ServerError, free_port, programs

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".services"
URLS = STATE / "urls.json"
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlt-services"
NAME = f"mlt-services-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"  # each checkout has servers of its own
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=128MB", "max_connections=200")
APACHE = ("shared_preload_libraries=timescaledb", "timescaledb.telemetry_level=off", "timescaledb.license=apache")
TIMESCALE = Path("/usr/lib/postgresql/17")  # in the chroot
ROOT_ON_DEBIAN = os.name == "posix" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def say(words: str) -> None:
    "A line for whoever waits."
    print(words, flush=True)


def run(*command: str, seconds: int = 900, log: Path | None = None) -> None:
    "A command of the system's, its words in a log; a failure is one line."
    log = log or STATE / "install.log"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # 1: packages start no server
    with open(log, "ab") as out:
        try:
            ended = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=seconds, env=environment
            )
        except subprocess.TimeoutExpired:
            raise ServerError(f"{command[0]} took longer than {seconds} s; see {log}") from None
    if ended.returncode:
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise ServerError(f"{' '.join(command[:2])} failed ({said[-1] if said else 'no reason given'}); see {log}")


def install(*packages: str) -> None:
    "Debian packages, when this is Debian and we may."
    if not ROOT_ON_DEBIAN:
        raise ServerError(f"{packages[0]} isn't installed, and only root on Debian can install it here")
    say(f"installing {', '.join(packages)}")
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)


def mirror() -> str:
    "Where this machine gets its Debian packages."
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]
    found = sorted(set(subprocess.run(query, capture_output=True, text=True).stdout.split()))
    if not found:
        raise ServerError("apt on this machine has no Debian mirror to take trixie from")
    return found[0]


def small_debian() -> Path:
    "The chroot with TimescaleDB, made once, whoever asks first."
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(KEPT / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another checkout may be making it
        return _small_debian()


def _small_debian() -> Path:
    "The chroot: whole or not at all."
    chroot, making = KEPT / "trixie", KEPT / "trixie.making"
    if (chroot / TIMESCALE.relative_to("/") / "lib/timescaledb.so").exists():
        return chroot
    if not ROOT_ON_DEBIAN:
        raise ServerError("its chroot can be made by root on Debian only")
    if not shutil.which("mmdebstrap"):
        install("mmdebstrap")
    if not mirrors_known():
        run("apt-get", "update", "-qq")
    if any(str(making) in line for line in Path("/proc/self/mounts").read_text().splitlines()):
        raise ServerError(f"something is still mounted under {making}; unmount it, then try again")
    shutil.rmtree(making, ignore_errors=True)
    say(f"making a small Debian for TimescaleDB in {chroot} (a minute or two, once)")
    packages = "--include=postgresql-17,postgresql-17-timescaledb"
    run("mmdebstrap", "--mode=root", "--variant=minbase", packages, "trixie", str(making), mirror())
    shutil.rmtree(chroot, ignore_errors=True)
    making.rename(chroot)
    return chroot


def mirrors_known() -> bool:
    "Has apt read its lists?"
    try:
        return bool(mirror())
    except ServerError:
        return False


def postgres() -> Cluster:
    "The plain server: the newest that is installed, else Debian's."
    if not programs():
        install("postgresql")
    found = programs()
    if not found:
        raise ServerError("no server programs (initdb, pg_ctl) were found")
    folder = Path("/var/tmp") / NAME if os.geteuid() == 0 else STATE  # root's home may be closed to the user postgres
    return Cluster(found, folder / "postgres", free_port(), options=FAST)


def timescale() -> Cluster:
    "The server with TimescaleDB."
    if os.geteuid() != 0:
        raise ServerError("its chroot needs root")
    chroot = small_debian()
    return Cluster(TIMESCALE / "bin", Path("/var/tmp") / NAME / "timescale", free_port(), chroot, (*FAST, *APACHE))


SERVERS: dict[str, Callable[[], Cluster]] = {"postgres": postgres, "timescale": timescale}


def brought_up(name: str, known: dict[str, str]) -> str:
    "The address of a server, started when it doesn't run."
    cluster = SERVERS[name]()
    if name in known:
        standing = Cluster(
            cluster.programs, cluster.folder, int(known[name].rpartition(":")[2].split("/")[0]), cluster.chroot
        )
        if standing.running():
            say(f"{name:10} {standing.url}  (was up)")
            return standing.url
    cluster.make().start().create_database()
    say(f"{name:10} {cluster.url}")
    return cluster.url


def written() -> dict[str, str]:
    "The addresses written down by an earlier run."
    try:
        return dict(json.loads(URLS.read_text()))
    except (OSError, ValueError):
        return {}


def main() -> int:
    "Start what can be started; 0 unless MLT_REQUIRE_SERVICES=1 and something is missing."
    STATE.mkdir(exist_ok=True)
    with open(STATE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would make the same folders
        known, urls, missing = written(), {}, 0
        for name in SERVERS:
            if os.environ.get(variable := f"MLT_TEST_{name.upper()}_URL"):
                say(f"{name:10} given by {variable}")  # not written down: it may hold a password
                continue
            try:
                urls[name] = brought_up(name, known)
            except (ServerError, OSError, subprocess.SubprocessError) as error:
                say(f"{name:10} can't be had: {error}. Its tests will skip and say so.")
                missing += 1
        fresh = URLS.with_suffix(".new")
        fresh.write_text(json.dumps(urls, indent=2) + "\n")
        fresh.replace(URLS)
    say(f"{'written to':10} {URLS.relative_to(ROOT)}; `make services-stop` ends them")
    return int(bool(missing) and os.environ.get("MLT_REQUIRE_SERVICES") == "1")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        sys.exit(f"{error.filename or STATE}: {error.strerror}; make it writable for whoever runs this.")
    except KeyboardInterrupt:
        sys.exit("stopped by hand; run the same command again to go on.")
