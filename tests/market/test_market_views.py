"Every view: looks at nothing later, needs the rows it says and no more, agrees with a plain loop, and is never infinite."

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bars_for_views import ROWS, bars, panels
from scipy import stats

from mlt_lib.errors import DataError, SettingsError
from mlt_lib.market.characteristics import momentum
from mlt_lib.market.liquidity import log_price
from mlt_lib.market.views import PRICE_VIEWS, FeatureView, feedable, fingerprint, price_panels, tail

WHOLE = panels()
FOUND = {name: view(WHOLE) for name, view in PRICE_VIEWS.items()}


class Past:
    "What is known of one name at one row, oldest first."

    def __init__(self, row: int, name: str) -> None:
        for field, panel in WHOLE.items():
            values = panel[name] if isinstance(panel, pd.DataFrame) else panel
            setattr(self, field, values.to_numpy(float)[: row + 1])
        self.returns = np.append(np.nan, self.prices[1:] / self.prices[:-1] - 1)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def least_squares(y: np.ndarray, *x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Intercept and slopes, and the residuals."
    table = np.column_stack([np.ones(len(y)), *x])
    found = np.linalg.lstsq(table, y, rcond=None)[0]
    return found, y - table @ found


def lagged(x: np.ndarray, many: int, window: int) -> list[np.ndarray]:
    return [x[len(x) - window - k : len(x) - k] for k in range(many + 1)]


def growth(p: Past, back: int, skip: int = 0) -> float:
    return p.prices[-1 - skip] / p.prices[-1 - back] - 1


def three_days(x: np.ndarray) -> np.ndarray:
    logs = np.log1p(x)
    return np.array([logs[t - 2 : t + 1].sum() for t in range(2, len(logs))])


def correlation_beta(p: Past) -> float:
    stock, index = three_days(p.returns)[-1260:], three_days(p.market)[-1260:]
    spread = np.log1p(p.returns[-252:]).std() / np.log1p(p.market[-252:]).std()
    return 0.6 * np.corrcoef(stock, index)[0, 1] * spread + 0.4


def downside(p: Past) -> float:
    fell = p.market[-252:] < 0
    return np.polyfit(p.market[-252:][fell], p.returns[-252:][fell], 1)[0]


def residual_momentum(p: Past) -> float:
    (level, slope), _ = least_squares(p.returns[-756:], p.market[-756:])
    left = (p.returns - level - slope * p.market)[-252:-21]
    return left.mean() / left.std(ddof=1) * 252**0.5


def delay(p: Past) -> float:
    y, x = p.returns[-252:], lagged(p.market, 4, 252)
    short, long = (1 - least_squares(y, *f)[1].var() / y.var() for f in (x[:1], x))
    return 1 - short / long


def coskewness(p: Past) -> float:
    left, x = least_squares(p.returns[-252:], p.market[-252:])[1], p.market[-252:] - p.market[-252:].mean()
    return (left * x**2).mean() / ((left**2).mean() ** 0.5 * (x**2).mean())


def frog(p: Past) -> float:
    steps = p.returns[-252:-21]
    return np.sign(growth(p, 252, 21)) * ((steps < 0).mean() - (steps > 0).mean())


def amihud(p: Past) -> float:
    dollars = (p.close * p.volume)[-252:]
    return np.mean([abs(r) / d * 1e6 for r, d in zip(p.returns[-252:], dollars, strict=True) if d > 0])


def yearly_dividends(p: Past) -> float:
    shares, paid = 1.0, 0.0
    for t in range(len(p.close) - 1, len(p.close) - 253, -1):  # back in time, one share of today
        shares /= p.split[t]
        paid += shares * p.dividend[t]
    return paid / p.close[-1]


def corwin_schultz(p: Past) -> float:
    moved = p.prices / p.close
    high, low, close = p.high * moved, p.low * moved, p.prices
    found = []
    for t in range(len(close) - 21, len(close)):
        h, low_t = high[t], low[t]
        if low_t > close[t - 1]:
            h, low_t = h * close[t - 1] / low_t, close[t - 1]
        elif h < close[t - 1]:
            h, low_t = close[t - 1], low_t * close[t - 1] / h
        b = np.log(h / low_t) ** 2 + np.log(high[t - 1] / low[t - 1]) ** 2
        g = np.log(max(h, high[t - 1]) / min(low_t, low[t - 1])) ** 2
        k = 3 - 2 * 2**0.5
        a = ((2 * b) ** 0.5 - b**0.5) / k - (g / k) ** 0.5
        found.append(max(2 * (np.exp(a) - 1) / (1 + np.exp(a)), 0))
    return np.mean(found)


def abdi_ranaldo(p: Past) -> float:
    moved, close = np.log(p.prices / p.close), np.log(p.prices)
    middle = (np.log(p.high) + np.log(p.low)) / 2 + moved
    days = range(len(close) - 21, len(close))
    return np.mean([max(4 * (close[t - 1] - middle[t - 1]) * (close[t - 1] - middle[t]), 0) ** 0.5 for t in days])


def bounce(p: Past) -> float:
    together = np.cov(p.returns[-252:], p.returns[-253:-1])[0, 1]
    return 2 * max(-together, 0) ** 0.5


def quarter_deviation(p: Past) -> float:
    return (least_squares(p.returns[-63:], p.market[-63:])[1] ** 2).sum() / 61


def dollars(p: Past, rows: int) -> np.ndarray:
    return (p.close * p.volume)[-rows:]


ORACLES = {
    "momentum_12_1": lambda p: growth(p, 252, 21),
    "momentum_6_1": lambda p: growth(p, 126, 21),
    "momentum_12_7": lambda p: growth(p, 252, 126),
    "reversal": lambda p: growth(p, 21),
    "reversal_week": lambda p: growth(p, 5),
    "long_term_reversal": lambda p: growth(p, 756, 252),
    "longer_term_reversal": lambda p: growth(p, 1260, 252),
    "momentum_change": lambda p: growth(p, 126) - growth(p, 252, 126),
    "nearness_to_high": lambda p: p.prices[-1] / p.prices[-252:].max(),
    "days_since_high": lambda p: int(np.argmax(p.prices[-252:][::-1])),
    "moving_average_distance": lambda p: p.prices[-21:].mean() / p.prices[-200:].mean(),
    "residual_momentum": residual_momentum,
    "same_month": lambda p: np.mean([p.prices[-1 - 252 * k + 21] / p.prices[-1 - 252 * k] - 1 for k in range(1, 6)]),
    "intraday_return": lambda p: np.log(p.close / p.open)[-21:].sum(),
    "overnight_return": lambda p: (np.log1p(p.returns) - np.log(p.close / p.open))[-21:].sum(),
    "volatility": lambda p: p.returns[-252:].std(ddof=1) * 252**0.5,
    "volatility_month": lambda p: p.returns[-21:].std(ddof=1) * 252**0.5,
    "beta": lambda p: np.polyfit(p.market[-252:], p.returns[-252:], 1)[0],
    "lagged_beta": lambda p: least_squares(p.returns[-252:], *lagged(p.market, 1, 252))[0][1:].sum(),
    "correlation_beta": correlation_beta,
    "downside_beta": downside,
    "idiosyncratic_volatility": lambda p: (quarter_deviation(p) * 252) ** 0.5,
    "idiosyncratic_skewness": lambda p: stats.skew(least_squares(p.returns[-252:], p.market[-252:])[1]),
    "coskewness": coskewness,
    "price_delay": delay,
    "largest_return": lambda p: p.returns[-21:].max(),
    "smallest_return": lambda p: p.returns[-21:].min(),
    "mean_of_largest": lambda p: np.sort(p.returns[-21:])[-5:].mean(),
    "skewness": lambda p: stats.skew(p.returns[-252:]),
    "high_low_range": lambda p: np.log(p.high / p.low)[-21:].mean(),
    "information_discreteness": frog,
    "dollar_volume": lambda p: np.log(dollars(p, 21).mean()),
    "volume_variability": lambda p: np.log(dollars(p, 63)).std(ddof=1),
    "illiquidity": amihud,
    "volume_shock": lambda p: np.log(dollars(p, 1)[0] / dollars(p, 50)[:-1].mean()),
    "volume_trend": lambda p: np.log(dollars(p, 21).mean() / dollars(p, 252).mean()),
    "log_price": lambda p: np.log(p.close[-1]),
    "dividend_yield": yearly_dividends,
    "bounce_spread": bounce,
    "range_spread": corwin_schultz,
    "close_spread": abdi_ranaldo,
    "still_days": lambda p: (p.returns[-252:] == 0).mean(),
}
SKIPS = {  # rows up to the one that a view sees last
    "momentum_12_1": 21,
    "momentum_6_1": 21,
    "momentum_12_7": 126,
    "long_term_reversal": 252,
    "longer_term_reversal": 252,
    "same_month": 231,
    "information_discreteness": 21,
}


def test_there_are_thirty_at_least_and_each_has_an_oracle():
    assert len(PRICE_VIEWS) >= 30
    assert ORACLES.keys() == PRICE_VIEWS.keys()
    assert all(view.paper and view.name == name for name, view in PRICE_VIEWS.items())


@pytest.mark.parametrize("name", PRICE_VIEWS)
def test_agrees_with_a_plain_loop(name):
    for row in (1262, 1270, 1299):
        for symbol in WHOLE["prices"]:
            with np.errstate(divide="ignore", invalid="ignore"):
                expected = ORACLES[name](Past(row, symbol))
            found = FOUND[name][symbol].iloc[row]
            if np.isfinite(expected):
                assert found == pytest.approx(expected, rel=1e-8, abs=1e-12), (symbol, row)
            else:
                assert np.isnan(found), (symbol, row)


@pytest.mark.parametrize("name", PRICE_VIEWS)
def test_a_row_does_not_feel_later_rows(name):
    chance = np.random.default_rng(len(name))
    for cut in (1262, 1281):
        altered = {}
        for field, panel in bars().items():
            changed = panel.copy()
            if field != "split":
                changed.iloc[cut:] *= chance.uniform(0.2, 5, changed.iloc[cut:].shape)
            else:
                changed.iloc[cut:] = chance.choice([0.5, 1, 4], changed.iloc[cut:].shape)
            altered[field] = changed
        late = PRICE_VIEWS[name](price_panels(**altered))
        assert late.iloc[:cut].equals(FOUND[name].iloc[:cut])
        if name not in {"still_days", *SKIPS}:
            assert not late.iloc[cut].equals(FOUND[name].iloc[cut])  # the change was one that the view can see


@pytest.mark.parametrize("name", PRICE_VIEWS)
def test_live_computes_the_same_bits_from_the_rows_it_says_it_needs(name):
    view = PRICE_VIEWS[name]
    for row in (1263, 1288, 1300):
        for spare in (0, 1, 3):
            short = price_panels(**{f: p.iloc[max(0, row - view.history - spare) : row] for f, p in bars().items()})
            assert view(short).iloc[-1].equals(FOUND[name].iloc[row - 1]), (row, spare)


@pytest.mark.parametrize(
    "name", sorted(set(PRICE_VIEWS) - {"illiquidity"})
)  # which takes nine tenths of a window for enough
def test_one_row_less_is_too_little(name):
    view = PRICE_VIEWS[name]
    assert FOUND[name].iloc[-1].notna().any()
    if view.history > 1:
        short = price_panels(**{field: panel.iloc[-(view.history - 1) :] for field, panel in bars().items()})
        assert view(short).iloc[-1].isna().all()


@pytest.mark.parametrize("name", PRICE_VIEWS)
def test_other_names_and_their_order_change_no_bit(name):
    fields = bars()
    market = WHOLE["market"]
    some = {field: panel[["S4", "S1"]] for field, panel in fields.items()}
    found = PRICE_VIEWS[name]({**price_panels(**some), "market": market})
    assert found.equals(FOUND[name][["S4", "S1"]])


@pytest.mark.parametrize("name", SKIPS)
def test_what_skips_sees_a_row_when_its_time_has_come(name):
    prices = bars()["prices"]
    prices.iloc[1030] *= 1.5
    changed = PRICE_VIEWS[name](price_panels(prices)).fillna(0) != FOUND[name].fillna(0)
    assert int(np.argmax(changed.any(axis=1))) == 1030 + SKIPS[name]


@pytest.mark.parametrize("name", PRICE_VIEWS)
def test_a_missing_session_empties_windows_and_spares_the_other_names(name):
    fields = bars()
    for field in fields:
        fields[field] = fields[field].copy()
        fields[field].iloc[1270, 0] = np.nan
    market = WHOLE["market"]
    found = PRICE_VIEWS[name]({**price_panels(**fields), "market": market})
    assert found["S1"].equals(FOUND[name]["S1"])
    assert found["S0"].iloc[:1270].equals(FOUND[name]["S0"].iloc[:1270])
    if name not in {"illiquidity", *SKIPS}:
        assert np.isnan(found["S0"].iloc[1270])


@pytest.mark.parametrize("name", PRICE_VIEWS)
@pytest.mark.parametrize("kind", ["still", "no volume", "one name", "tiny", "huge"])
def test_odd_markets_give_no_infinity_and_no_warning(name, kind):
    fields = {field: panel.iloc[:, :1] if kind == "one name" else panel for field, panel in bars(1270, 2).items()}
    money = ("prices", "open", "high", "low", "close")
    if kind == "still":
        fields |= {field: fields[field] * 0 + 10.0 for field in money}
    if kind == "no volume":
        fields["volume"] = fields["volume"] * 0
    if kind in ("tiny", "huge"):
        fields |= {field: fields[field] * (1e-6 if kind == "tiny" else 1e9) for field in money}
    with np.errstate(all="raise", under="ignore"):
        found = PRICE_VIEWS[name](price_panels(**fields))
    assert not np.isinf(found.to_numpy()).any()
    assert found.shape == fields["prices"].shape


@pytest.mark.parametrize("name", ["beta", "idiosyncratic_volatility", "skewness", "momentum_12_1", "nearness_to_high"])
def test_the_scale_of_prices_does_not_matter(name):
    scaled = price_panels(WHOLE["prices"] * 7.3)
    pd.testing.assert_frame_equal(PRICE_VIEWS[name](scaled), FOUND[name], rtol=1e-9, atol=1e-12)


def test_a_split_leaves_dollars_spreads_and_nights_alone():
    fields = bars()
    later = np.where(np.arange(ROWS) >= 1280, 4.0, 1.0)[:, None]  # shares that one has become
    changed = {field: fields[field] / later for field in ("open", "high", "low", "close", "dividend")}
    changed["volume"] = fields["volume"] * later
    changed["split"] = fields["split"].copy()
    changed["split"].iloc[1280] *= 4
    changed["dividend"].iloc[1280] *= 4  # paid on an old share
    split = price_panels(fields["prices"], **changed)
    for name in set(PRICE_VIEWS) - {"log_price"}:
        pd.testing.assert_frame_equal(PRICE_VIEWS[name](split), FOUND[name], rtol=1e-7, atol=1e-10, obj=name)


def test_tails_and_what_can_be_fed():
    few = price_panels(WHOLE["prices"])
    assert {v.name for v in feedable([*PRICE_VIEWS.values()], few)} >= {"momentum_12_1", "beta"}
    assert "illiquidity" not in {v.name for v in feedable([*PRICE_VIEWS.values()], few)}
    assert len(tail(few, 10)["market"]) == len(tail(few, 10)["prices"]) == 10
    with pytest.raises(DataError, match="illiquidity: needs close, volume"):
        PRICE_VIEWS["illiquidity"](few)
    with pytest.raises(DataError, match="panel close"):
        price_panels(WHOLE["prices"], close=WHOLE["close"].iloc[1:])


def test_a_view_is_refused_where_it_makes_no_sense():
    for wrong in (dict(version=0), dict(history=0), dict(inputs=()), dict(name="two words")):
        with pytest.raises(SettingsError, match="view"):
            FeatureView(
                **{**dict(name="x", version=1, inputs=("close",), compute=log_price, history=1, paper=""), **wrong}
            )
    with pytest.raises(SettingsError, match="plain function"):
        fingerprint(len)


def test_the_fingerprint_feels_code_and_fixed_arguments_and_nothing_else():
    def first(prices):
        "Says something."
        return prices * 2  # a comment

    def second(prices):
        return prices * 3

    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(partial(momentum, skip=0)) != fingerprint(momentum)
    assert len({view.fingerprint for view in PRICE_VIEWS.values()}) == len(PRICE_VIEWS)


def test_the_fingerprint_reaches_the_functions_that_are_called(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def written(name, inner, layout=""):
        (tmp_path / f"{name}.py").write_text(
            f'def deep(x):\n    {layout}return x + {inner}\n\n\ndef outer(x: float) -> float:\n    "Docs."\n    return deep(x)\n'
        )
        return fingerprint(__import__(name).outer)

    plain = written("view_one", 1)
    assert written("view_two", 1, "'''Said.'''\n    # a comment\n    ") == plain
    assert written("view_three", 2) != plain
    assert written("view_four", 1, "if x is None:\n        raise ValueError('one thing')\n    ") == written(
        "view_five", 1, "if x is None:\n        raise KeyError('another')\n    "
    )
