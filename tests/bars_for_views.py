"Bars of a market that never was, with everything that a view may ask for."

from typing import Any

import numpy as np
import pandas as pd

from mlt_lib.market.views import price_panels

ROWS, NAMES = 1300, 6


def bars(rows: int = ROWS, names: int = NAMES, seed: int = 0) -> dict[str, pd.DataFrame]:
    "Adjusted prices, and opens, highs, lows, closes, volumes, dividends and splits as traded."
    chance = np.random.default_rng(seed)
    index = pd.bdate_range("2010-01-01", periods=rows)
    columns = [f"S{n}" for n in range(names)]
    common, own = chance.normal(0.0003, 0.01, (rows, 1)), chance.standard_t(4, (rows, names)) * 0.01
    total = np.exp((common * np.linspace(0.5, 1.5, names) + own).cumsum(axis=0)) * 50
    total[:, -1] = np.round(total[:, -1])  # one name in whole dollars, so that some days stand still
    split = np.where(chance.random((rows, names)) < 0.002, chance.choice([2.0, 3.0, 1.5, 0.1], (rows, names)), 1.0)
    paid = np.where(chance.random((rows, names)) < 0.016, 0.007, 0.0)  # of the price before
    raw = total.copy()
    for t in range(1, rows):
        raw[t] = raw[t - 1] * (total[t] / total[t - 1] - paid[t]) / split[t]
    dividend = np.vstack([np.zeros((1, names)), paid[1:] * raw[:-1]])
    start = raw * np.exp(chance.normal(0, 0.005, raw.shape))
    reach = np.exp(np.abs(chance.normal(0, 0.006, (2, *raw.shape))))
    volume = np.round(np.exp(chance.normal(12, 0.5, raw.shape)))
    volume[chance.random(raw.shape) < 0.001] = 0.0
    found = {
        "prices": total,
        "open": start,
        "high": np.maximum(raw, start) * reach[0],
        "low": np.minimum(raw, start) / reach[1],
        "close": raw,
        "volume": volume,
        "dividend": dividend,
        "split": split,
    }
    return {name: pd.DataFrame(values, index, columns) for name, values in found.items()}


def panels(rows: int = ROWS, names: int = NAMES, seed: int = 0) -> dict[str, Any]:
    "What the views are fed with."
    return price_panels(**bars(rows, names, seed))
