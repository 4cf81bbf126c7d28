"Stop the servers that up.py started for this checkout, and throw their data away; the chroot is kept."

import os
import sys
from contextlib import suppress
from pathlib import Path

from cluster import Cluster, programs
from up import KEPT, NAME, STATE, TIMESCALE, URLS, say


def main() -> int:
    "Always 0: what doesn't run needs no stopping."
    folder = Path("/var/tmp") / NAME
    here = Cluster(programs() or Path("/usr/bin"), (folder if os.geteuid() == 0 else STATE) / "postgres", 0)
    apart = Cluster(TIMESCALE / "bin", folder / "timescale", 0, KEPT / "trixie")
    for cluster in (here, apart):
        if cluster.place.exists():
            cluster.remove()
            say(f"stopped {cluster.place}")
        with suppress(OSError):  # not there, or not empty
            cluster.place.parent.rmdir()
    URLS.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
