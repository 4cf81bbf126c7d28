"""Measure what the scores of texts are worth and what they cost, and write it to docs/figures/sentiment.json.

    .venv/bin/python tests/performance/bench_sentiment.py [--runs 5]

Quality: balanced accuracy on the half of the labelled headlines that chose nothing, beside plain VADER with a band of its
own and beside guessing; needs the shared data (MLT_TEST_DATA). Speed: the same texts through our scorer and through
vaderSentiment called text by text, in one run. Nobody set a bound beforehand, so none is claimed to be met.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from bench_daily import processor  # noqa: E402

from mlt_lib.data.sentiment import VADER, VADER_FINANCE, best_band, calls, first_half, quality, text_key  # noqa: E402
from mlt_lib.data.tone import tone  # noqa: E402
from mlt_lib.market.calendar import sessions  # noqa: E402


def timed(work: Callable[[], Any]) -> float:
    "Seconds of one call."
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def worth(news: pd.DataFrame) -> dict[str, dict[str, float]]:
    "Balanced accuracy on the second half, ours, the peer's, and what lies between."
    half = first_half(news["text"])
    early, late = news[half], news[~half]
    found = {}
    for scorer in (VADER, VADER_FINANCE):
        band = best_band(early["truth"].to_numpy(), scorer.score(early["text"]))
        called = calls(scorer.score(late["text"]), band)
        found[scorer.name] = quality(late["truth"].to_numpy(), called, late["text"].map(text_key))
    ours, peer = found["vader_finance"], found["vader"]
    gain = ours.draws - peer.draws
    figures = {
        f"balanced accuracy, {name}": {"value": round(q.balanced, 4), "error": round(q.error, 4), "n": len(late)}
        for name, q in found.items()
    }
    figures["balanced accuracy, guessing"] = {"value": round(1 / 3, 4), "error": 0.0, "n": len(late)}
    gained = {"value": round(float(gain.mean()), 4), "error": round(float(gain.std(ddof=1)), 4), "n": len(late)}
    figures["balanced accuracy, gained over vader"] = gained
    figures["accuracy, vader_finance"] = {"value": round(ours.accuracy, 4), "n": len(late)}
    figures["accuracy, all called neutral"] = {"value": round(ours.base_rate, 4), "n": len(late)}
    return figures


def cost(texts: pd.Series, runs: int) -> dict[str, dict[str, float]]:
    "Texts a second, ours beside vaderSentiment's own call on the same machine in the same run."
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    peer = SentimentIntensityAnalyzer()
    VADER_FINANCE.score(texts.head(5))
    ways = {
        "texts scored a second, vader_finance": lambda: VADER_FINANCE.score(texts),
        "texts scored a second, vaderSentiment": lambda: [peer.polarity_scores(text) for text in texts],
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, work in ways.items():
            taken[name].append(timed(work))
    figures = {
        name: {"median": round(len(texts) / median(t)), "worst": round(len(texts) / max(t)), "n": runs}
        for name, t in taken.items()
    }
    ratio = median(taken["texts scored a second, vaderSentiment"]) / median(
        taken["texts scored a second, vader_finance"]
    )
    figures["texts scored a second, ratio to vaderSentiment"] = {"median": round(ratio, 2), "n": runs}
    return figures


def history(folder: Path, runs: int) -> dict[str, dict[str, float]]:
    "The tone of 46,115 tweets at 440 sessions, scoring included."
    raw = pd.read_parquet(folder / "tweets_stocknet_2014_2015.parquet")
    tweets = pd.DataFrame(
        {
            "item_id": np.arange(len(raw)).astype(str),
            "source": "twitter",
            "symbols": [(ticker,) for ticker in raw["ticker"]],
            "event_time": raw["created_at"],
            "known_time": raw["created_at"],
            "author": raw["tweet_id"].astype(str),
            "title": raw["text"],
            "body": None,
        }
    )
    days, names = sessions("2014-01-02", "2015-09-30"), sorted(raw["ticker"].unique())
    taken = [timed(lambda: tone(tweets, days, names)) for _ in range(runs)]
    return {
        "tone of 46,115 tweets at 440 sessions, s": {
            "median": round(median(taken), 2),
            "worst": round(max(taken), 2),
            "n": runs,
        }
    }


def main() -> int:
    "Measure, write, print a table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/figures/sentiment.json")
    asked = parser.parse_args()
    shared = Path(os.environ.get("MLT_TEST_DATA", ROOT.parent / "shared/data"))
    headlines = shared / "sentiment_twitter_financial_news.csv.gz"
    if not headlines.exists():
        print(f"no {headlines}: set MLT_TEST_DATA to where the shared data are", file=sys.stderr)
        return 0
    news = pd.read_csv(headlines)
    news["truth"] = news["label"].map({0: 0, 2: 1, 1: 2})
    figures = worth(news) | cost(news["text"], asked.runs) | history(shared, max(1, asked.runs // 2))
    machine = {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    record = {
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine,
        "scorer": VADER_FINANCE.version,
        "figures": figures,
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(record, indent=2) + "\n")
    for name, row in figures.items():
        print(f"{name:50} " + "  ".join(f"{key} {value:,}" for key, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
