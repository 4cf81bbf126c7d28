"Enforce line coverage by area: risk and execution 95 %, models 90 %, strategies, data and store 85 %, all 80 %."

import json
import sys
from pathlib import Path

FLOORS = {"risk": 95, "execution": 95, "models": 90, "strategies": 85, "data": 85, "store": 85, "": 80}


def lines_of(report: dict, area: str) -> tuple[int, int]:
    "Covered and countable lines of the files under an area."
    chosen = [f["summary"] for name, f in report["files"].items() if name.startswith(f"mlt_lib/{area}")]
    return sum(s["covered_lines"] for s in chosen), sum(s["num_statements"] for s in chosen)


def main(path: str) -> int:
    "Print a row an area; 1 when any is below its floor or has no lines at all."
    report, failed = json.loads(Path(path).read_text()), False
    for area, floor in FLOORS.items():
        covered, total = lines_of(report, area + "/" if area else "")
        share = 100 * covered / total if total else 0.0
        failed |= share < floor
        print(
            f"{area or 'all':12} {share:6.1f} %  of {total:5} lines, floor {floor} %  {'ok' if share >= floor else 'BELOW'}"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
