"Run the job notebooks the way production does: in a fresh folder, through the runner, on the embedded data."

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MLT = Path(sys.executable).with_name("mlt")


def main() -> int:
    "0 when a replay of two sessions and its report ran."
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "settings.ini", folder)
        ended = subprocess.run([MLT, "replay", "--sessions", "2", "--settings", f"{folder}/settings.ini"])
        pages = sorted(p.relative_to(folder) for p in Path(folder, "reports").rglob("*.html"))
        print("\n".join(f"  {page}" for page in pages))
        made = {page.parent.name for page in pages}
        return ended.returncode or int(not {"ingest", "trade", "report"} <= made)


if __name__ == "__main__":
    sys.exit(main())
