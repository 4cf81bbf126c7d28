"Characteristics that stand still on some dates, and intervals of loadings."

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from panels import linear_panel

from mlt_lib.errors import PanelError
from mlt_lib.models.inference import gamma_intervals
from mlt_lib.models.ipca import IPCA
from mlt_lib.models.managed import appended, managed_portfolios

ROOT = Path(__file__).parents[2]


def test_a_characteristic_missing_for_all_on_some_dates_is_named_with_their_number():
    Z, r, *_ = linear_panel(dates=40)
    Z.loc[Z.index.get_level_values(0).isin(Z.index.levels[0][:7]), "c1"] = 0.0
    with pytest.warns(UserWarning, match=r"some of the 40 dates: 'c1' on 7;") as said:
        IPCA(2).fit(Z, r)
    assert [w.filename for w in said if "'c1'" in str(w.message)] == [__file__]


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_a_panel_that_varies_and_its_constant_raise_no_warning(missing):
    Z, r, *_ = linear_panel(missing=missing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        IPCA(2).fit(Z, r)


def test_what_stands_still_is_known_date_by_date_in_any_order_of_rows():
    Z, r, *_ = linear_panel(dates=12)
    Z.loc[Z.index.get_level_values(0) == Z.index.levels[0][3], "c0"] = 0.25
    expected = Z.groupby(level=0).nunique().eq(1).to_numpy()
    mixed = Z.sample(frac=1, random_state=1)
    assert (managed_portfolios(Z, r).flat == expected).all()
    assert (managed_portfolios(mixed, r.reindex(mixed.index)).flat == expected).all()
    panel = managed_portfolios(Z, r)
    assert (appended(panel[:5], panel[5:]).flat == expected).all()


def test_intervals_hold_the_truth_as_often_as_they_say():
    held = []
    for seed in range(15):
        Z, r, gamma, _ = linear_panel(latent=1, noise=0.1, seed=seed)
        ends = gamma_intervals(IPCA(1).fit(Z, r), draws=80, level=0.9)["f1"]
        true = gamma[:, 0] * np.sign(gamma[:, 0] @ ends.mean(axis=1).to_numpy())
        held.append((ends["low"] <= true) & (true <= ends["high"]))
    assert 0.75 <= np.mean(held) <= 0.99


def test_intervals_shrink_with_more_dates():
    few, many = (
        gamma_intervals(IPCA(1).fit(*linear_panel(dates=dates, latent=1, noise=0.1)[:2]), draws=40)["f1"]
        for dates in (40, 320)
    )
    assert (many["high"] - many["low"]).mean() < 0.6 * (few["high"] - few["low"]).mean()


def test_intervals_are_those_of_the_seed_and_refuse_what_means_nothing():
    Z, r, *_ = linear_panel()
    model = IPCA(2, intercept=True).fit(Z, r)
    assert gamma_intervals(model, draws=5).equals(gamma_intervals(model, draws=5))
    assert list(gamma_intervals(model, draws=5).columns) == [(f, e) for f in ("f1", "f2") for e in ("low", "high")]
    with pytest.raises(PanelError, match="draws = 1"):
        gamma_intervals(model, draws=1)
    with pytest.raises(PanelError, match="level = 1.0"):
        gamma_intervals(model, level=1.0)
    with pytest.raises(PanelError, match="not fitted"):
        gamma_intervals(IPCA(2))


def test_every_figure_of_the_page_is_that_of_the_record():
    figures = json.loads((ROOT / "docs/figures/models.json").read_text())["figures"]
    page = (ROOT / "docs/factor-models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \| ([^|]+?) \| (\d+) \| ([^|]*?) \| ([^|]*?) \|", page, re.M)
    assert {row[0] for row in rows} == set(figures)
    for name, middle, worst, runs, bound, met in rows:
        figure = figures[name]
        assert (float(middle), float(worst), int(runs)) == (figure["median"], figure["worst"], figure["n"])
        assert bound == ("" if figure["bound"] is None else f"at {figure['at']} {figure['bound']:g}")
        assert met == ("" if figure["bound"] is None else "met" if figure["met"] else "**not met**")


def test_no_figure_stands_in_the_page_outside_its_table():
    page = (ROOT / "docs/factor-models.md").read_text(encoding="utf-8")
    prose = "\n".join(line for line in page.splitlines() if not line.startswith("|"))
    assert re.findall(r"\d+(?:\.\d+)? ?(?:s\b|ms\b|GB\b|times\b|%)", prose) == []
