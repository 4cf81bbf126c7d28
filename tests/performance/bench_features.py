"""Measure the views on real stocks and the as-of join, each beside a peer in the same run; write docs/figures/features.json.

    .venv/bin/python tests/performance/bench_features.py [--runs 5] [--data ../shared/data]

The views are computed on the 385-stock panel (without it: on a random walk of the same size, and the record says so), all
that there are, beside the same definitions in plain pandas (`rolling`, `cov`) where pandas has words for them. The join answers
100,000 questions from a million facts, beside `pandas.merge_asof` with the sorting that it needs and beside a loop over the
symbols.
"""

import argparse
import gc
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from mlt_lib.market.as_of import as_of_join
from mlt_lib.market.views import PRICE_VIEWS, price_panels

ROOT = Path(__file__).parents[2]
FIELDS = ("open", "high", "low", "close", "volume", "dividend", "split")


def timed(work: Callable[[], Any], runs: int) -> dict[str, float]:
    "Median and worst seconds of several runs."
    found = []
    for _ in range(runs):
        gc.collect()
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return {"median": round(median(found), 3), "worst": round(max(found), 3), "n": runs}


def real_panels(data: Path) -> tuple[dict[str, Any], str]:
    "The 385 stocks, or a walk of their size."
    path = data / "us_equity_daily.parquet"
    if path.exists():
        bars = pd.read_parquet(path)
        wide = {c: bars.pivot(index="date", columns="ticker", values=c).astype(float) for c in FIELDS}
        growth = (wide["close"] * wide["split"] + wide["dividend"]) / wide["close"].shift(1)
        prices = growth.fillna(1.0).cumprod().where(wide["close"].notna())
        return price_panels(prices, **wide), f"{prices.shape[1]} stocks, {len(prices)} sessions, real"
    chance = np.random.default_rng(0)
    index, names = pd.bdate_range("1999-11-01", periods=4822), [f"S{n}" for n in range(385)]
    close = pd.DataFrame(100 * np.exp(chance.normal(0, 0.02, (4822, 385)).cumsum(axis=0)), index, names)
    raw = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": close * 0 + 1e6}
    return price_panels(close, **raw, dividend=close * 0, split=close * 0 + 1), "385 walks, 4822 sessions"


def with_pandas(panels: dict[str, Any]) -> dict[str, Callable[[], pd.DataFrame]]:
    "The same views as one writes them in plain pandas, where it has a word for them."
    p, m, c, v, h, low = (panels[n] for n in ("prices", "market", "close", "volume", "high", "low"))
    r = p / p.shift(1) - 1

    def slope(window: int) -> pd.DataFrame:
        return r.rolling(window).cov(m).div(m.rolling(window).var(), axis=0)

    def left(window: int) -> pd.DataFrame:
        free = r.rolling(window).var() - (slope(window) ** 2).mul(m.rolling(window).var(), axis=0)
        return (free.clip(lower=0) * (window - 1) / (window - 2) * 252) ** 0.5

    def falls() -> pd.DataFrame:
        fell = m.where(m < 0)
        return (
            r.where(m < 0, axis=0)
            .rolling(252, min_periods=3)
            .cov(fell)
            .div(fell.rolling(252, min_periods=3).var(), axis=0)
        )

    return {
        "momentum_12_1": lambda: p.shift(21) / p.shift(252) - 1,
        "momentum_6_1": lambda: p.shift(21) / p.shift(126) - 1,
        "momentum_12_7": lambda: p.shift(126) / p.shift(252) - 1,
        "reversal": lambda: p / p.shift(21) - 1,
        "reversal_week": lambda: p / p.shift(5) - 1,
        "long_term_reversal": lambda: p.shift(252) / p.shift(756) - 1,
        "longer_term_reversal": lambda: p.shift(252) / p.shift(1260) - 1,
        "momentum_change": lambda: p / p.shift(126) - p.shift(126) / p.shift(252),
        "nearness_to_high": lambda: p / p.rolling(252).max(),
        "moving_average_distance": lambda: p.rolling(21).mean() / p.rolling(200).mean(),
        "same_month": lambda: sum(p.shift(252 * k - 21) / p.shift(252 * k) - 1 for k in range(1, 6)) / 5,
        "intraday_return": lambda: np.log(c / panels["open"]).rolling(21).sum(),
        "overnight_return": lambda: (np.log1p(r) - np.log(c / panels["open"])).rolling(21).sum(),
        "volatility": lambda: r.rolling(252).std() * 252**0.5,
        "volatility_month": lambda: r.rolling(21).std() * 252**0.5,
        "beta": lambda: slope(252),
        "downside_beta": falls,
        "idiosyncratic_volatility": lambda: left(63),
        "largest_return": lambda: r.rolling(21).max(),
        "smallest_return": lambda: r.rolling(21).min(),
        "skewness": lambda: r.rolling(252).skew() * (250 / (252 * 251) ** 0.5),
        "high_low_range": lambda: np.log(h / low).rolling(21).mean(),
        "dollar_volume": lambda: np.log((c * v).rolling(21).mean()),
        "volume_variability": lambda: np.log((c * v).where(v > 0)).rolling(63).std(),
        "illiquidity": lambda: (r.abs() / (c * v / 1e6).where(v > 0)).rolling(252, min_periods=227).mean(),
        "volume_shock": lambda: np.log((c * v).where(v > 0) / (c * v).shift(1).rolling(49).mean()),
        "volume_trend": lambda: np.log((c * v).rolling(21).mean() / (c * v).rolling(252).mean()),
        "log_price": lambda: np.log(c),
        "bounce_spread": lambda: 2 * (-r.rolling(252).cov(r.shift(1), pairwise=False)).clip(lower=0) ** 0.5,
        "still_days": lambda: (r == 0).astype(float).where(r.notna()).rolling(252).mean(),
    }


def measure_views(panels: dict[str, Any], runs: int) -> dict[str, Any]:
    "All views; and those that pandas has a word for, by us and by pandas (once: it takes its time)."
    every = timed(lambda: [view(panels) for view in PRICE_VIEWS.values()], runs)
    ours, peer, away = {}, {}, {}
    for name, work in with_pandas(panels).items():
        own = PRICE_VIEWS[name](panels).to_numpy()
        ours[name] = timed(lambda name=name: PRICE_VIEWS[name](panels), runs)["median"]
        begun = time.perf_counter()
        theirs = work().to_numpy(float)
        peer[name] = time.perf_counter() - begun
        both = np.isfinite(own) & np.isfinite(theirs)
        print(f"{name:28} {ours[name]:7.3f} s, pandas {peer[name]:7.3f} s", file=sys.stderr)
        away[name] = float(np.median(np.abs(own[both] - theirs[both])) / (np.median(np.abs(own[both])) or 1.0))
    found = {f"all {len(PRICE_VIEWS)} views, s": {**every, "target": 30, "met": every["worst"] < 30}}
    mine, other = sum(ours.values()), sum(peer.values())
    found[f"{len(peer)} of them beside pandas rolling, s"] = {
        "sum of medians": round(mine, 2), "peer, once": round(other, 2), "times faster": round(other / mine, 2),
        "largest median distance": max(away.values()), "slowest in pandas": max(peer, key=lambda name: peer[name]),
    }  # fmt: skip
    return found


def questions() -> tuple[pd.DataFrame, pd.DataFrame]:
    "A million facts of a thousand names with all three times, and a hundred thousand questions."
    chance = np.random.default_rng(0)
    names, start = np.array([f"S{n:04d}" for n in range(1000)]), np.datetime64("2015-01-01", "us")
    event = np.tile(start + np.arange(1000).astype("timedelta64[D]"), 1000)
    known = event + np.timedelta64(1, "h")
    facts = pd.DataFrame({
        "symbol": np.repeat(names, 1000), "event_time": event, "known_time": known, "recorded_time": known,
        "value": chance.normal(size=1_000_000),
    })  # fmt: skip
    moments = start + chance.integers(0, 86_400_000_000 * 1100, 100_000).astype("timedelta64[us]")
    return pd.DataFrame({"symbol": chance.choice(names, 100_000), "decision_time": moments}), facts


def by_merge(asked: pd.DataFrame, facts: pd.DataFrame) -> np.ndarray:
    "pandas.merge_asof, with the order that it needs, back in the order of the questions."
    ordered = asked.sort_values("decision_time", kind="stable")
    right = facts.sort_values("known_time", kind="stable")
    found = pd.merge_asof(ordered, right, left_on="decision_time", right_on="known_time", by="symbol")
    return found["value"].set_axis(ordered.index).reindex(asked.index).to_numpy()


def by_symbol(asked: pd.DataFrame, facts: pd.DataFrame) -> np.ndarray:
    "A search within each symbol, as one writes it first."
    found = np.full(len(asked), np.nan)
    groups = {name: part for name, part in facts.groupby("symbol", sort=False)}
    for name, part in asked.groupby("symbol", sort=False):
        own = groups[name]
        place = own["known_time"].searchsorted(part["decision_time"].to_numpy(), side="right") - 1
        found[part.index] = np.where(place >= 0, own["value"].to_numpy()[np.maximum(place, 0)], np.nan)
    return found


def measure_join(runs: int) -> dict[str, Any]:
    "The join on facts in order, as the store gives them, and in disorder."
    asked, facts = questions()
    mixed = facts.sample(frac=1, random_state=0)
    ours = as_of_join(asked, facts)["value"].to_numpy()
    for other in (by_merge(asked, facts), by_symbol(asked, facts), as_of_join(asked, mixed)["value"].to_numpy()):
        assert ours.tobytes() == other.tobytes()
    own, disorder = timed(lambda: as_of_join(asked, facts), runs), timed(lambda: as_of_join(asked, mixed), runs)
    merge, loop = timed(lambda: by_merge(asked, facts), runs), timed(lambda: by_symbol(asked, facts), max(1, runs // 2))
    return {
        "100,000 questions on 1 million facts, s": {
            **own, "target": 0.2, "met": own["worst"] < 0.2,
            "merge_asof median": merge["median"], "times faster than merge_asof": round(merge["median"] / own["median"], 2),
            "loop median": loop["median"], "times faster than the loop": round(loop["median"] / own["median"], 2),
        },
        "the same, facts in disorder, s": {**disorder, "target": None},
    }  # fmt: skip


def processor() -> str:
    "The processor's name, where the system tells it."
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    "Measure, write, print; 1 when a target is missed."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MLT_TEST_DATA") or ROOT / "../shared/data"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs/figures/features.json")
    asked = parser.parse_args()
    figures = measure_join(max(asked.runs, 9))
    panels, what = real_panels(asked.data)
    with np.errstate(all="ignore"):
        figures |= measure_views(panels, asked.runs)
    record = {
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": {"processor": processor(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
                    "python": platform.python_version(), "numpy": np.__version__, "pandas": pd.__version__},
        "data": what,
        "peak memory, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "figures": figures,
    }  # fmt: skip
    before = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps({**before, **record}, indent=2) + "\n")
    print(json.dumps(record, indent=2))
    return int(any(row.get("met") is False for row in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
