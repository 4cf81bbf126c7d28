"""Fit a panel with PyPI's `ipca`, in an environment of its own: `python ipca_fit.py panel.npz runs factors tolerance`.

Prints one JSON line: CPU seconds of each fit from a DataFrame, rounds, the identified loadings, and the total R-squared.
"""

import contextlib
import io
import json
import sys
import time

import numpy as np
import pandas as pd
from ipca import InstrumentedPCA


def panel_of(path: str) -> tuple[pd.DataFrame, pd.Series]:
    "Characteristics and returns on (symbol, date), as this package wants them."
    with np.load(path, allow_pickle=False) as stored:
        index = pd.MultiIndex.from_arrays([stored["symbol"], stored["date"]], names=["symbol", "date"])
        return pd.DataFrame(stored["z"], index), pd.Series(stored["r"], index)


def fitted(Z: pd.DataFrame, r: pd.Series, factors: int, tolerance: float) -> tuple[InstrumentedPCA, float, int]:
    "The model, CPU seconds, and how many rounds it took."
    said = io.StringIO()
    model = InstrumentedPCA(n_factors=factors, iter_tol=tolerance, max_iter=100_000)
    with contextlib.redirect_stdout(said):
        begun = time.process_time()
        model.fit(X=Z, y=r)
        spent = time.process_time() - begun
    return model, spent, said.getvalue().count("Step")


def total_r2(model: InstrumentedPCA, Z: pd.DataFrame, r: pd.Series) -> float:
    "Share of squared returns explained, about zero."
    gamma, factors = model.get_factors()
    t = np.unique(Z.index.get_level_values(1), return_inverse=True)[1]
    left = r.to_numpy() - np.einsum("nk,nk->n", Z.to_numpy() @ gamma, factors.T[t])
    return float(1 - left @ left / (r.to_numpy() @ r.to_numpy()))


def main(path: str, runs: str, factors: str, tolerance: str) -> None:
    "Warm up on the first dates, so that nothing is compiled while the clock runs; then measure."
    Z, r = panel_of(path)
    first = Z.index.get_level_values(1) < np.unique(Z.index.get_level_values(1))[40]
    fitted(Z[first], r[first], int(factors), 1e-2)
    spent = []
    for _ in range(int(runs)):
        model, seconds, rounds = fitted(Z, r, int(factors), float(tolerance))
        spent.append(seconds)
    gamma = model.get_factors()[0].tolist()
    print(json.dumps({"cpu": spent, "rounds": rounds, "gamma": gamma, "total_r2": total_r2(model, Z, r)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
