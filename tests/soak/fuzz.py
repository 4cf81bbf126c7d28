"""Let atheris look for input that a parser doesn't stand.

    python tests/soak/fuzz.py [--seconds 600] [--only yahoo,lexicon] [--jobs 2]

Needs the packages of requirements-soak.lock. Each parser gets a process and so many seconds; what made one fail is kept
under .mlt/soak/<parser> with the trace beside it, and the answer is 1. `--again FILE --only NAME` plays one input back.
"""

import argparse
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".mlt/soak"


def hunt(name: str, seconds: int, memory: int) -> None:
    "Fuzz one parser in this process; atheris ends it."
    import atheris

    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    with atheris.instrument_imports(include=["mlt_lib"]):
        import parsers
    parsers.TABLE = name
    folder = KEPT / name
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for place, table in enumerate(parsers.CSVS):
        (folder / f"corpus/seed{place}").write_bytes(b"\xff" + table)
    limits = [
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={memory}",
        "-timeout=60",
        "-max_len=2048",
        "-print_final_stats=1",
    ]
    atheris.Setup([name, *limits, f"-artifact_prefix={folder}/", str(folder / "corpus")], parsers.TARGETS[name])
    atheris.Fuzz()


def watched(name: str, seconds: int, memory: int) -> tuple[str, int, int, str]:
    "Fuzz one parser in a process of its own: its name, runs, seconds, and what was found."
    begun = time.monotonic()
    command = [sys.executable, __file__, "--one", name, "--seconds", str(seconds), "--memory", str(memory)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=ROOT, timeout=seconds + 900)
    runs = re.findall(r"number_of_executed_units:\s*(\d+)", done.stderr)
    found = ""
    if done.returncode:
        KEPT.joinpath(name, "trace.txt").write_text(done.stdout + done.stderr)
        lines = [line for line in done.stdout.splitlines() if re.match(r"\w*(Error|Exception|Interrupt)\b", line)]
        found = (lines or done.stderr.strip().splitlines() or ["ended early"])[-1][:200]
    return name, int(runs[-1]) if runs else 0, round(time.monotonic() - begun), found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600, help="for each parser")
    parser.add_argument("--only", default="", help="names with commas between")
    parser.add_argument("--jobs", type=int, default=2, help="parsers at a time")
    parser.add_argument("--memory", type=int, default=2500, help="MB that a parser may take")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--again", type=Path, help="play one kept input back to the parser named by --only")
    asked = parser.parse_args()
    if asked.one:
        hunt(asked.one, asked.seconds, asked.memory)
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    from parsers import TARGETS

    names = [name for name in asked.only.split(",") if name] or list(TARGETS)
    if strangers := [name for name in names if name not in TARGETS]:
        print(f"no parser {', '.join(strangers)}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    if asked.again:
        TARGETS[names[0]](asked.again.read_bytes())
        print("stood it")
        return 0
    with ThreadPoolExecutor(asked.jobs) as pool:
        failed = False
        print(f"{'parser':16} {'inputs':>10} {'seconds':>8}  found")
        for name, runs, seconds, found in pool.map(lambda n: watched(n, asked.seconds, asked.memory), names):
            print(f"{name:16} {runs:>10,} {seconds:>8}  {found or 'nothing'}", flush=True)
            failed |= bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
