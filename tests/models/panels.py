"Panels whose truth is known, for the tests of factor models."

import numpy as np
import pandas as pd


def index_of(dates: int, names: int, missing: float = 0.0, seed: int = 0) -> pd.MultiIndex:
    "A panel's index; with `missing`, that share of the rows is left out at random."
    full = pd.MultiIndex.from_product(
        [pd.date_range("2000-01-31", periods=dates, freq="ME"), [f"S{i:03d}" for i in range(names)]],
        names=["date", "symbol"],
    )
    return full[np.random.default_rng(seed).random(len(full)) >= missing]


def linear_panel(dates=60, names=40, width=4, latent=2, noise=0.05, missing=0.0, seed=0, alpha=None):
    "Z, r, the true Gamma and the true factors (dates x latent)."
    rng, index = np.random.default_rng(seed), index_of(dates, names, missing, seed)
    Z = pd.DataFrame(
        rng.uniform(-0.5, 0.5, (len(index), width)), index, [f"c{k}" for k in range(width - 1)] + ["constant"]
    )
    Z["constant"] = 1.0
    gamma = np.linalg.qr(rng.standard_normal((width, latent)))[0]
    factors = rng.standard_normal((dates, latent)) * np.linspace(0.08, 0.04, latent) + 0.02
    t = index.codes[0]
    r = np.einsum("nk,nk->n", Z.to_numpy() @ gamma, factors[t]) + noise * rng.standard_normal(len(index))
    if alpha is not None:
        r = r + Z.to_numpy() @ np.asarray(alpha)
    return Z, pd.Series(r, index, name="r"), gamma, factors
