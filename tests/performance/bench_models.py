"""Measure the factor models beside PyPI's `ipca`, and write it to docs/figures/models.json.

    .venv/bin/python tests/performance/bench_models.py [--runs 10] [--peer-runs 3] [--only ipca] [--peers FOLDER]

The peer is installed from peers/ipca.lock into an environment of its own, outside the tree, and fits the same panels to the
same tolerance in a process of its own, warmed up. CPU seconds of one thread, from a DataFrame to the result, except where
a figure says wall. Where both must agree, the loadings are compared at a tight tolerance, and a difference above the bound
stops the run. The panels of industries and of stocks lie beside the project; without them their figures are left as they were.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from bench_daily import processor  # noqa: E402

from mlt_lib.models.inference import alpha_test  # noqa: E402
from mlt_lib.models.ipca import IPCA  # noqa: E402
from mlt_lib.models.trees import BoostedBeta, PTree  # noqa: E402

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
SHARED = Path(os.environ.get("MLT_TEST_DATA", ROOT / "../shared/data"))
FACTORS, WIDTH, TOLERANCE, TIGHT = 5, 30, 1e-6, 1e-12
PANELS = {"500 x 240": (500, 240, 0.0, 40), "3000 x 600": (3000, 600, 0.3, 55)}  # names, dates, missing, times less CPU
ACCOUNTS = ["log_me", "bm", "ep", "sp", "cfp", "asset_growth", "gp_a", "roa", "roe", "leverage"]


@dataclass(frozen=True)
class Figure:
    "One line of the record."

    values: list[float]  # one a run
    bound: float
    least: bool = False  # is the bound the least that will do? else the most
    note: str = ""

    def row(self) -> dict[str, object]:
        "The median, the worst, and whether the worst is within the bound."
        worst = min(self.values) if self.least else max(self.values)
        met = worst >= self.bound if self.least else worst <= self.bound
        told = {"median": rounded(median(self.values)), "worst": rounded(worst), "n": len(self.values)}
        return told | {
            "bound": self.bound,
            "at": "least" if self.least else "most",
            "met": bool(met),
            "note": self.note,
        }


def rounded(value: float) -> float:
    "Four digits that count."
    return float(f"{value:.4g}")


def made_up(names: int, dates: int, missing: float, width: int = WIDTH, seed: int = 0) -> dict[str, np.ndarray]:
    "A panel of five factors whose loadings are linear in characteristics, and noise."
    rng = np.random.default_rng(seed)
    date, symbol = np.divmod(np.flatnonzero(rng.random(names * dates) >= missing), names)
    z = rng.uniform(-0.5, 0.5, (len(date), width))
    z[:, -1] = 1.0
    gamma = np.linalg.qr(rng.standard_normal((width, FACTORS)))[0]
    f = rng.standard_normal((dates, FACTORS)) * np.linspace(0.06, 0.02, FACTORS) + 0.005
    r = np.einsum("nk,nk->n", z @ gamma, f[date]) + 0.15 * rng.standard_normal(len(date))
    return {"z": z, "r": r, "date": date, "symbol": symbol}


def real(name: str) -> dict[str, np.ndarray]:
    "The industries since 1969, or the stocks on dates on which no characteristic is missing altogether; ranked per month."
    if name == "industries":
        raw = pd.read_parquet(SHARED / "char_panel_ff49_monthly.parquet").set_index(["date", "industry"])
        raw = raw.loc["1969-07-31":].drop(columns=["ret", "ret_ew", "ret_fwd", "log_ind_me", "log_bm"])
    else:
        raw = pd.read_parquet(SHARED / "char_panel_us_stocks_monthly.parquet").set_index(["date", "ticker"])
        first, last = raw.columns.get_loc("mom_12_2"), raw.columns.get_loc("div_yield_12")
        raw = raw.iloc[:, first : last + 1].join(raw["ret_fwd_excess"])
    raw = raw.dropna(subset=["ret_fwd_excess"]).sort_index()
    known = raw.groupby(level=0).count().gt(0).all(axis=1)
    raw = raw[raw.index.get_level_values(0).map(known)]
    y = raw.pop("ret_fwd_excess")
    z = (raw.groupby(level=0).rank(pct=True) - 0.5).fillna(0.0).assign(constant=1.0)
    date, symbol = (np.unique(raw.index.get_level_values(k), return_inverse=True)[1] for k in (0, 1))
    return {"z": z.to_numpy(float), "r": y.to_numpy(float), "date": date, "symbol": symbol}


def frame_of(panel: dict[str, np.ndarray]) -> tuple[pd.DataFrame, pd.Series]:
    "Characteristics and returns on (date, symbol)."
    index = pd.MultiIndex.from_arrays([panel["date"], panel["symbol"]], names=["date", "symbol"])
    return pd.DataFrame(panel["z"], index), pd.Series(panel["r"], index)


def cpu(work: Callable[[], object]) -> float:
    "CPU seconds of this process."
    begun = time.process_time()
    work()
    return time.process_time() - begun


def peer_environment(folder: Path) -> Path:
    "The peer's Python, installed from its lock if it isn't yet."
    lock = HERE / "peers/ipca.lock"
    home = folder / f"ipca-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    python = home / "bin/python"
    if not (home / "ready").exists():
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}") or "uv"
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, home], check=True)
        subprocess.run([uv, "pip", "sync", "-q", "--require-hashes", "--python", python, lock], check=True)
        (home / "ready").touch()
    return python


def said(*words: object) -> dict:
    "What a process tells as JSON."
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" or "peers" not in str(words[1])}
    done = subprocess.run(
        [str(w) for w in words], check=True, env=kept, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return json.loads(done.stdout.decode().splitlines()[-1])


def peer_fit(python: Path, panel: dict[str, np.ndarray], runs: int, factors: int, tolerance: float) -> dict:
    "The peer on a panel."
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/panel.npz", **panel)
        return said(python, HERE / "peers/ipca_fit.py", f"{folder}/panel.npz", runs, factors, tolerance)


def memory(names: int, dates: int, missing: float) -> None:
    "One fit in a process of its own: its peak memory in GB, the panel included, as JSON."
    IPCA(FACTORS).fit(*frame_of(made_up(names, dates, missing)))
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))


def apart(ours: np.ndarray, theirs: list, what: str, bound: float = 1e-8) -> float:
    "The largest difference of identified loadings, signs aside; above the bound the bench stops."
    other = np.array(theirs)
    found = float(np.abs(ours - other * np.sign((ours * other).sum(axis=0))).max())
    if found > bound:
        raise SystemExit(f"{what}: loadings differ from the peer's by {found:.1e}, more than {bound:.0e}.")
    return found


def bench_ipca(asked: argparse.Namespace) -> dict[str, Figure]:
    "Fits of made-up panels, ours and the peer's."
    found, python = {}, peer_environment(asked.peers)
    for name, (names, dates, missing, times) in PANELS.items():
        panel = made_up(names, dates, missing)
        Z, r = frame_of(panel)
        theirs = peer_fit(python, panel, asked.peer_runs, FACTORS, TOLERANCE)
        model = IPCA(FACTORS, tol=TOLERANCE).fit(Z, r)
        ours = [cpu(lambda Z=Z, r=r: IPCA(FACTORS, tol=TOLERANCE).fit(Z, r)) for _ in range(asked.runs)]
        note = f"tol {TOLERANCE:g}: total R2 {model.total_r2_:.10f} in {model.n_iter_} rounds"
        other = f"tol {TOLERANCE:g}: total R2 {theirs['total_r2']:.10f} in {theirs['rounds']} rounds"
        ratios = [median(theirs["cpu"]) / seconds for seconds in ours]
        found[f"ipca {name}: times less CPU"] = Figure(ratios, times, True, "the peer's median over each of our runs")
        found[f"ipca {name}: CPU s"] = Figure(ours, 1.0, note=note)
        found[f"ipca {name}: peer's CPU s"] = Figure(theirs["cpu"], float("inf"), note=other)
        tight = peer_fit(python, panel, 1, FACTORS, TIGHT)
        gamma = IPCA(FACTORS, tol=TIGHT).fit(Z, r).gamma_.to_numpy()
        found[f"ipca {name}: Gamma apart"] = Figure([apart(gamma, tight["gamma"], name)], 1e-8, note=f"tol {TIGHT:g}")
        found |= rounds(name, Z, r) | appended(name, Z, r, theirs["cpu"], asked.runs)
    peak = said(sys.executable, HERE / "bench_models.py", "--memory", "3000 x 600")
    found["ipca 3000 x 600: peak memory, GB"] = Figure([float(peak)], 2.0, note="the panel and its making included")
    return found


def rounds(name: str, Z: pd.DataFrame, r: pd.Series) -> dict[str, Figure]:
    "What the short cut saves, at tolerances at which plain alternation needs 20 rounds or more."
    found = {}
    for tolerance in (TOLERANCE, 1e-9, TIGHT):
        plain, quick = (IPCA(FACTORS, tol=tolerance, memory=m).fit(Z, r).n_iter_ for m in (0, IPCA().memory))
        if plain >= 20:
            label = f"ipca {name}: rounds saved at tol {tolerance:g}, times"
            found[label] = Figure([plain / quick], 2.0, True, f"{plain} plain, {quick} with the short cut")
    return found


def appended(name: str, Z: pd.DataFrame, r: pd.Series, theirs: list[float], runs: int) -> dict[str, Figure]:
    "One more date: against fitting anew, ours and the peer's (which can't append)."
    last = Z.index.get_level_values(0) == Z.index.get_level_values(0).max()
    spent, anew = [], []
    for _ in range(runs):
        model = IPCA(FACTORS, tol=TOLERANCE).fit(Z[~last], r[~last])
        z, y = Z[last], r[last]
        spent.append(cpu(lambda model=model, z=z, y=y: model.partial_fit(z, y)))
        anew.append(cpu(lambda: IPCA(FACTORS, tol=TOLERANCE).fit(Z, r)))
    note = f"one date in {1000 * median(spent):.1f} ms of CPU, to the full tolerance"
    return {
        f"partial_fit {name}: times cheaper than our fit": Figure([median(anew) / s for s in spent], 100, True, note),
        f"partial_fit {name}: times cheaper than the peer's fit": Figure(
            [median(theirs) / s for s in spent], 100, True, note
        ),
    }


def bench_agreement(asked: argparse.Namespace) -> dict[str, Figure]:
    "Real panels at a tight tolerance."
    found, python = {}, peer_environment(asked.peers)
    for name in ("industries", "stocks"):
        panel = real(name)
        Z, r = frame_of(panel)
        for factors in (1, 3):
            model = IPCA(factors, tol=TIGHT).fit(Z, r)
            theirs = peer_fit(python, panel, 1, factors, TIGHT)
            label, (dates, width) = f"{name}, K = {factors}", (len(model.panel_), Z.shape[1])
            note = f"{len(Z):,} rows, {dates} dates, L = {width}; {model.n_iter_} rounds in {cpu(lambda model=model: IPCA(model.n_factors, tol=TIGHT).fit(Z, r)):.2f} CPU s, the peer {theirs['rounds']} in {theirs['cpu'][0]:.1f}; tol {TIGHT:g}"  # noqa: E501, B023
            found[f"agreement, {label}: Gamma apart"] = Figure(
                [apart(model.gamma_.to_numpy(), theirs["gamma"], label)], 1e-8, note=note
            )
            gap = abs(model.total_r2_ - theirs["total_r2"])
            found[f"agreement, {label}: total R2 apart"] = Figure([gap], 1e-10, note=f"total R2 {model.total_r2_:.6f}")
    return found


def bench_bootstrap(asked: argparse.Namespace) -> dict[str, Figure]:
    "A thousand draws on two cores, wall seconds."
    spent, model = [], IPCA(3, intercept=True).fit(*frame_of(real("industries")))
    for _ in range(asked.peer_runs):
        begun = time.perf_counter()
        test = alpha_test(model, draws=1000, n_jobs=2)
        spent.append(time.perf_counter() - begun)
    note = f"49 industries, K = 3, n_jobs = 2; p = {test.p_value:.3f}, {test.unfinished} draws not converged"
    return {"W_alpha, 1000 draws: wall s": Figure(spent, 60, note=note)}


def bench_trees(asked: argparse.Namespace) -> dict[str, Figure]:
    "Boosted loadings and a panel tree on 240,000 rows."
    Z, r = frame_of(made_up(1000, 240, 0.0))
    corner = 0.05 * ((Z[0] > 0.1) & (Z[1] < -0.1)) * np.random.default_rng(1).standard_normal(240).repeat(1000)
    boosted = [cpu(lambda: BoostedBeta(3).fit(Z, r + corner)) for _ in range(asked.peer_runs)]
    kept = BoostedBeta(3).fit(Z, r + corner)
    Z, r = frame_of(made_up(1000, 240, 0.0, 61))
    Z = (2 * Z).clip(-1, 1)
    tree = [cpu(lambda: PTree(10).fit(Z, r)) for _ in range(asked.peer_runs)]
    note = f"K = 3, {len(kept.path_)} rounds, {kept.rounds_} kept; one thread"
    return {
        "BoostedBeta 240,000 x 30: CPU s": Figure(boosted, 60, note=note),
        "PTree 10 leaves, 240,000 x 61: CPU s": Figure(tree, 10, note="1,000 names x 240 dates"),
    }


BENCHES = {"ipca": bench_ipca, "agreement": bench_agreement, "bootstrap": bench_bootstrap, "trees": bench_trees}


def written(figures: dict[str, dict], page: Path) -> None:
    "The table of the page, between its heading and the next."
    head = "| figure | median | worst | runs | bound | | how |\n|---|---|---|---|---|---|---|\n"
    lines = []
    for name, row in figures.items():
        bound = (
            ("", "")
            if row["bound"] is None
            else (f"at {row['at']} {row['bound']:g}", "met" if row["met"] else "**not met**")
        )
        lines.append(
            f"| {name} | {row['median']} | {row['worst']} | {row['n']} | {bound[0]} | {bound[1]} | {row['note']} |\n"
        )
    before, rest = page.read_text(encoding="utf-8").split("## Figures\n", 1)
    after = rest[rest.index("\n## ") :]
    page.write_text(f"{before}## Figures\n\n{head}{''.join(lines)}{after}", encoding="utf-8")


def main() -> int:
    "Measure, merge into the record, print a table; 1 when a bound is missed."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--peer-runs", type=int, default=3, help="runs of what takes long")
    parser.add_argument("--only", choices=BENCHES, action="append")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "mlt-peers")
    parser.add_argument("--memory", choices=PANELS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/figures/models.json")
    asked = parser.parse_args()
    if asked.memory:
        memory(*PANELS[asked.memory][:3])
        return 0
    figures = json.loads(asked.out.read_text())["figures"] if asked.out.exists() else {}
    for name in asked.only or BENCHES:
        if name in ("agreement", "bootstrap") and not SHARED.exists():
            print(f"{name}: no panels in MLT_TEST_DATA; its figures stay as they were.", file=sys.stderr)
            continue
        print(f"{name} ...", file=sys.stderr)
        figures |= {label: figure.row() for label, figure in BENCHES[name](asked).items()}
    for row in figures.values():
        row["bound"] = None if row["bound"] == float("inf") else row["bound"]
    machine = {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    versions = {name: version(name) for name in ("numpy", "pandas", "scikit-learn", "lightgbm")} | {"ipca": "0.6.7"}
    record = {"measured": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine, "versions": versions, "figures": figures}
    asked.out.write_text(json.dumps(record, indent=2) + "\n")
    written(figures, ROOT / "docs/factor-models.md")
    for name, row in figures.items():
        bound = "" if row["bound"] is None else f"{row['at']} {row['bound']:g}: {'met' if row['met'] else 'NOT MET'}"
        print(f"{name:58} {row['median']:10.4g} {row['worst']:10.4g} {row['n']:3}  {bound}  {row['note']}")
    return int(any(row["bound"] is not None and not row["met"] for row in figures.values()))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
