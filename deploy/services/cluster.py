"""A throw-away PostgreSQL server on loopback: made, started, killed, removed. Standard library only.

A server must not run as root, so root hands the folder and the programs to the user `postgres`. TimescaleDB's programs live
in a small Debian of their own (a chroot); there the folder is named as the chroot sees it.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

USER = "quant"  # superuser of every server here
DATABASE = "quant"
PLACES = ("/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt")


class ServerError(Exception):
    "Why a server can't be had, in one line."


def programs() -> Path | None:
    "The folder of the newest PostgreSQL server that is installed."
    found = [place for root in PLACES for place in Path(root).glob("*/bin") if (place / "initdb").is_file()]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return max(found, key=lambda place: [int(digits) for digits in re.findall(r"\d+", str(place))], default=None)


def free_port() -> int:
    "A port that nobody listened on a moment ago."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int, seconds: float = 1.0) -> bool:
    "Does anybody listen there?"
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=seconds):
        return True
    return False


@dataclass(frozen=True)
class Cluster:
    "One server: where its programs are, where its data are, where it listens."

    programs: Path  # initdb, pg_ctl, postgres
    folder: Path  # of data and log; in a chroot as the chroot sees it
    port: int
    chroot: Path | None = None
    options: tuple[str, ...] = ()  # as "fsync=off"

    @property
    def url(self) -> str:
        "Where it answers; every user on loopback is trusted."
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def place(self) -> Path:
        "The folder as this machine sees it."
        return self.chroot / self.folder.relative_to("/") if self.chroot else self.folder

    def _run(self, program: str, *words: str, check: bool = True) -> subprocess.CompletedProcess:
        "One of the server's programs, as the user that owns the data; nothing of it holds our pipes open."
        command = [str(self.programs / program), *words]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", *command]
        if self.chroot:
            command = ["chroot", str(self.chroot), *command]
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        said = self.place / "said"
        with open(said, "w+b") as out:  # a file, not a pipe: a server that inherits a pipe keeps its reader waiting
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        if check and ended.returncode:
            raise ServerError(f"{program} in {self.place}: {self._reason(program)}")
        return ended

    def _reason(self, program: str) -> str:
        "Why a program failed: the server's own last word, or the program's."
        for name in ("server.log", "said") if program == "pg_ctl" else ("said",):
            with suppress(OSError):
                lines = (self.place / name).read_text(errors="replace").splitlines()
                if serious := [line for line in lines if "FATAL" in line or "error" in line.lower()] or lines:
                    return serious[-1].strip()
        return "no reason given"

    def make(self) -> "Cluster":
        "An empty server that isn't running yet; what lay in the folder is gone."
        self.remove()
        self.place.mkdir(parents=True, mode=0o700)
        if os.geteuid() == 0:
            owner = ["chown", "postgres:postgres", str(self.folder)]
            subprocess.run(["chroot", str(self.chroot), *owner] if self.chroot else owner, check=True)
        self._run(
            *("initdb", "-D", str(self.folder / "data"), "-U", USER),
            *("--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"),
        )
        return self

    def start(self, seconds: int = 60) -> "Cluster":
        "Start it and wait until it answers; after a crash it first recovers."
        chosen = [f"-c {option}" for option in (f"port={self.port}", *self.options)]
        listening = f"-h 127.0.0.1 -k '' {' '.join(chosen)}"
        log = str(self.folder / "server.log")
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", str(seconds), "-l", log, "-o", listening, "start"
        )
        return self

    def create_database(self, name: str = DATABASE) -> "Cluster":
        "A database of that name."
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, name)
        return self

    def running(self) -> bool:
        "Is it up, and does it answer at its port?"
        if not (self.place / "data/postmaster.pid").exists():
            return False
        ended = self._run("pg_ctl", "-D", str(self.folder / "data"), "status", check=False)
        return ended.returncode == 0 and answers(self.port)

    def kill(self) -> None:
        "SIGKILL to the server and every process of it at once, as a power cut would; back when they are dead."
        head = int((self.place / "data/postmaster.pid").read_text().split()[0])
        os.kill(head, signal.SIGSTOP)  # so that it starts no new one meanwhile
        processes = [*_children(head), head]
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        until = time.monotonic() + 10
        while any(map(_alive, processes)) and time.monotonic() < until:
            time.sleep(0.005)
        if Path(f"/proc/{head}").exists():  # dead, but nobody has asked how it ended: its number still looks taken
            (self.place / "data/postmaster.pid").unlink()

    def stop(self) -> None:
        "Stop it, if it runs; its data are thrown away anyhow."
        if (self.place / "data/postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-t", "30", "stop", check=False)

    def remove(self) -> None:
        "Stop it and throw its data away."
        if self.place.exists():
            self.stop()
            shutil.rmtree(self.place, ignore_errors=True)


def _alive(process: int) -> bool:
    "Does it still run? One that is dead and unasked for doesn't."
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:  # no /proc on this system, or gone by now
        return not Path("/proc/self").exists()


def _children(head: int) -> list[int]:
    "The processes that a process started."
    with suppress(OSError):
        return [int(p) for p in Path(f"/proc/{head}/task/{head}/children").read_text().split()]
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid, parent in zip(listed[::2], listed[1::2], strict=True) if int(parent) == head]
