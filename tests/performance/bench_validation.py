"""Measure how long it takes to judge 1.65 million real bars, and write it to docs/figures/validation.json.

    .venv/bin/python tests/performance/bench_validation.py --runs 5

Each run is a process of its own that reads the bars, then times `validate_bars` alone; the peak is that of the whole
process. The peer in the same run is pandera alone with the same bounds, which finds what can't be true and nothing else.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("MLT_TEST_DATA", ROOT / "../shared/data")) / "us_equity_daily.parquet"
TARGETS = {"validate_bars, s": 15, "peak memory, GB": 2}


def one_run(peer: bool) -> None:
    "Judge the bars once and print the figures as JSON."
    import pandas as pd

    bars = pd.read_parquet(DATA).rename(columns={"ticker": "symbol", "date": "session"})
    if peer:
        from mlt_lib.data.bar_schema import impossible

        work, told = bars.astype({n: float for n in ("open", "high", "low", "close", "volume")}), impossible
    else:
        from mlt_lib.data.bars import validate_bars as told

        work = bars
    wall, cpu = time.perf_counter(), time.process_time()
    found = told(work)
    figures = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "rows": len(bars)}
    figures["held"] = len(found) if peer else len(found.quarantine)
    print(json.dumps(figures | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))


def runs(count: int, *words: str) -> list[dict[str, float]]:
    "The figures of some runs, each in a fresh process."
    command = [sys.executable, __file__, "--one", *words]
    return [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(count)
    ]


def main() -> None:
    "Measure, print beside the peer, and record."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        return one_run(chosen.peer)
    if not DATA.exists():
        sys.exit(f"{DATA}: not here; set MLT_TEST_DATA to the folder of the tests' data.")
    ours, peer = runs(chosen.runs), runs(max(chosen.runs // 2, 1), "--peer")
    rows, held = int(ours[0]["rows"]), int(ours[0]["held"])
    figures = {}
    for name, key in (("validate_bars, s", "wall"), ("validate_bars, CPU s", "cpu"), ("peak memory, GB", "peak")):
        values = [run[key] for run in ours]
        entry = {"median": round(median(values), 2), "worst": round(max(values), 2), "n": len(values)}
        if name in TARGETS:
            entry |= {"target": TARGETS[name], "met": max(values) <= TARGETS[name]}
        figures[name] = entry
    alone = [run["cpu"] for run in peer]
    figures["pandera alone, CPU s"] = {
        "median": round(median(alone), 2),
        "worst": round(max(alone), 2),
        "n": len(alone),
    }
    ratio = median(run["cpu"] for run in ours) / median(alone)
    found = {
        "rows": rows,
        "held back": held,
        "held back by pandera alone": int(peer[0]["held"]),
        "CPU, times pandera": round(ratio, 1),
    }
    record = {
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load at the end": round(os.getloadavg()[0], 1),
        },
        "versions": {name: version(name) for name in ("pandas", "numpy", "pandera")},
        "found": found,
        "figures": figures,
    }
    path = ROOT / "docs/figures/validation.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept | record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
