"""Measure what a newcomer waits for, and write it to docs/figures/daily.json.

    .venv/bin/python tests/performance/bench_daily.py --runs 10 [--install]

Each run is `mlt daily` in a fresh folder and then once more in the same; medians and the worst are recorded, beside the
bound that was set for each figure. `--install` also times `make env` on an empty cache, once.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BOUNDS = {
    "first run, s": 60,
    "second run, s": 40,
    "report, KB": 500,
    "import mlt_lib, CPU s": 1,
    "mlt --help, CPU s": 2,
    "install on a cold cache, s": 240,
}


def wall(*words: str, cwd: Path, **environment: str) -> float:
    "Seconds that a command takes; its failure is ours."
    begun = time.perf_counter()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLT_")}
    subprocess.run(words, cwd=cwd, check=True, env=kept | environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def cpu(*words: str, cwd: Path) -> float:
    "CPU seconds that a command takes."
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall(*words, cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def one_day() -> dict[str, float]:
    "A first and a second run of a new desk, and the weight of its page."
    with tempfile.TemporaryDirectory() as folder:
        desk = Path(folder)
        shutil.copy(ROOT / "settings.ini", desk)
        first, second = (wall(str(BIN / "mlt"), "daily", cwd=desk) for _ in range(2))
        page = next((desk / "reports/report").glob("*.html"))
        return {"first run, s": first, "second run, s": second, "report, KB": page.stat().st_size / 1000}


def start_up() -> dict[str, float]:
    "What importing and asking for help cost."
    return {
        "import mlt_lib, CPU s": cpu(sys.executable, "-c", "import mlt_lib", cwd=ROOT),
        "mlt --help, CPU s": cpu(str(BIN / "mlt"), "--help", cwd=ROOT),
    }


def install() -> dict[str, float]:
    "`make env` from a copy of the checkout on an empty cache."
    with tempfile.TemporaryDirectory() as folder:
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
        for name in tracked.decode().split("\0")[:-1]:
            target = Path(folder, "desk", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        cold = {"UV_CACHE_DIR": f"{folder}/uv", "PIP_NO_CACHE_DIR": "1"}
        return {"install on a cold cache, s": wall("make", "env", cwd=Path(folder, "desk"), **cold)}


def measured(what: Callable[[], dict[str, float]], runs: int) -> dict[str, list[float]]:
    "The same several times."
    found: dict[str, list[float]] = {}
    for run in range(runs):
        for name, value in what().items():
            found.setdefault(name, []).append(round(value, 3))
        print(f"{what.__name__} {run + 1} of {runs}", file=sys.stderr)
    return found


def processor() -> str:
    "The processor's name, where the system tells it."
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    "Measure, write, print a table; 1 when a bound is missed."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--install", action="store_true", help="time the install on an empty cache too")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/figures/daily.json")
    asked = parser.parse_args()
    values = measured(one_day, asked.runs) | measured(start_up, asked.runs)
    values |= measured(install, 1) if asked.install else {}
    figures = {
        name: {"median": round(median(v), 2), "worst": round(max(v), 2), "n": len(v), "bound": BOUNDS[name]}
        for name, v in values.items()
    }
    machine = {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    record = {"measured": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine, "figures": figures}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"{'figure':28} {'median':>8} {'worst':>8} {'n':>3} {'bound':>6}")
    for name, row in figures.items():
        state = "met" if row["worst"] <= row["bound"] else "NOT MET"
        print(f"{name:28} {row['median']:8.2f} {row['worst']:8.2f} {row['n']:3} {row['bound']:6}  {state}")
    return int(any(row["worst"] > row["bound"] for row in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
