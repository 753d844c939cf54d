"""Active profit against a benchmark portfolio: allocation, selection, interaction, timing, currency and costs, in money.

Brinson and Fachler's effects [1]_ of one period, for groups of assets (sectors, or every asset by itself), with the account's own
capital V at the start of the period. The benchmark is the portfolio of given weights b on the same capital, held through the period;
what is not in an asset is cash and earns nothing. With group values H (start of period) and weights B = sum(b), returns in the
assets' own quote currency R_P (what was held, held on) and R_B, and the whole benchmark's R:

    allocation    (H - V B) (R_B - R)
    selection     V B (R_P - R_B)
    interaction   (H - V B) (R_P - R_B)
    timing        P&L of the assets as traded, before costs, less that of the start's holdings held on
    currency      the exchange rates' part of the P&L of the start's holdings, less the same of the benchmark
    costs         funding received less fees paid

They sum to the active P&L = P&L of the account - P&L of the benchmark. Money adds over periods, so nothing has to be linked: the
sums over periods are exact too, and compare with a benchmark that starts each period with the account's capital of that moment.

Conventions: a group outside the benchmark has no R_B, and all it made is allocation; a group in the benchmark but not held has no
R_P, and is allocation too. Divisions are cut at 1e-12 and interaction takes what the cut leaves, so the residual is exactly 0.

References
----------
.. [1] Brinson, Fachler, "Measuring Non-US Equity Portfolio Performance", Journal of Portfolio Management, 1985; Bacon, "Practical
   Portfolio Performance Measurement and Attribution", 2nd ed., 2008, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext

from helios.errors import InvariantError
from helios.portfolio.lots import EXACT, SHARE, ZERO

EFFECTS = ("allocation", "selection", "interaction", "timing", "currency", "costs")
CASH = "cash"
ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class AssetPeriod:
    """One asset over one period.

    Attributes
    ----------
    quantity : Decimal
        Held at the start, negative for a short.
    start_price, end_price : Decimal
        In the asset's quote currency; both positive, equal where the price is of no consequence (nothing held, no weight).
    pnl : Decimal
        What the asset made in the period as it was traded, before costs, in the account's currency.
    costs : Decimal
        Fees paid less funding received, in the account's currency.
    weight : Decimal
        In the benchmark at the start, a fraction of its value.
    start_rate, end_rate : Decimal
        Account currency per unit of quote currency.
    """

    asset: str
    quantity: Decimal
    start_price: Decimal
    end_price: Decimal
    pnl: Decimal
    costs: Decimal = ZERO
    weight: Decimal = ZERO
    start_rate: Decimal = ONE
    end_rate: Decimal = ONE

    @property
    def start_value(self) -> Decimal:
        """Value at the start in the account's currency."""
        return self.quantity * self.start_price * self.start_rate

    @property
    def held_local(self) -> Decimal:
        """What the start's holding made by its price alone."""
        return self.quantity * (self.end_price - self.start_price) * self.start_rate

    @property
    def held_currency(self) -> Decimal:
        """What the start's holding made by the exchange rate, on the value it had at the end."""
        return self.quantity * self.end_price * (self.end_rate - self.start_rate)


@dataclass(frozen=True, slots=True)
class Period:
    """All assets of one period. `start_equity` is the account's, after the transfers of its beginning."""

    name: str
    start_equity: Decimal
    assets: tuple[AssetPeriod, ...]


@dataclass(frozen=True, slots=True)
class Attribution:
    """Effects by group; `active_pnl == portfolio_pnl - benchmark_pnl == sum of all effects`, to the last digit."""

    name: str
    portfolio_pnl: Decimal
    benchmark_pnl: Decimal
    effects: Mapping[str, Mapping[str, Decimal]]

    @property
    def active_pnl(self) -> Decimal:
        """What the account made beyond the benchmark."""
        with localcontext(EXACT):
            return self.portfolio_pnl - self.benchmark_pnl

    def totals(self) -> dict[str, Decimal]:
        """Return the sum of each effect over the groups."""
        with localcontext(EXACT):
            return {name: sum((group[name] for group in self.effects.values()), ZERO) for name in EFFECTS}


def attribute(period: Period, group_of: Callable[[str], str]) -> Attribution:
    """Return the effects of one period, by the group of each asset.

    Raises
    ------
    InvariantError
        If the equity at the start, a price or a rate is not positive, or an asset is there twice.
    """
    _check(period)
    with localcontext(EXACT):
        groups: dict[str, list[_Leg]] = {}
        for asset in period.assets:
            groups.setdefault(group_of(asset.asset), []).append(_Leg.of(asset, period.start_equity))
        benchmark_local = sum((leg.uncut for legs in groups.values() for leg in legs), ZERO)
        effects = {name: _effects(groups[name], period.start_equity, benchmark_local) for name in sorted(groups)}
        # Cash makes up both portfolios' rest; its bet against the benchmark's return is minus the sum of all others'.
        passed_on = sum((_bet(legs, period.start_equity, benchmark_local) for legs in groups.values()), ZERO)
        cash = effects.setdefault(CASH, dict.fromkeys(EFFECTS, ZERO))
        cash["allocation"] += passed_on
        pnl = sum((a.pnl - a.costs for a in period.assets), ZERO)
        benchmark = sum((leg.bench_local + leg.bench_currency for legs in groups.values() for leg in legs), ZERO)
    return Attribution(period.name, pnl, benchmark, effects)


def total(name: str, parts: Iterable[Attribution]) -> Attribution:
    """Return the sum of several periods: money adds, so no linking is needed."""
    effects: dict[str, dict[str, Decimal]] = {}
    pnl = benchmark = ZERO
    with localcontext(EXACT):
        for part in parts:
            pnl += part.portfolio_pnl
            benchmark += part.benchmark_pnl
            for group, values in part.effects.items():
                line = effects.setdefault(group, dict.fromkeys(EFFECTS, ZERO))
                for effect, value in values.items():
                    line[effect] += value
    return Attribution(name, pnl, benchmark, dict(sorted(effects.items())))


@dataclass(frozen=True, slots=True)
class _Leg:
    """One asset with what its benchmark weight made on the account's capital; `uncut` is `bench_local` before the cut, for ratios."""

    asset: AssetPeriod
    bench_local: Decimal
    bench_currency: Decimal
    uncut: Decimal

    @classmethod
    def of(cls, a: AssetPeriod, equity: Decimal) -> _Leg:
        if not a.weight:
            return cls(a, ZERO, ZERO, ZERO)
        capital, start = equity * a.weight, a.start_price * a.start_rate
        uncut = capital * (a.end_price - a.start_price) / a.start_price
        local = uncut.quantize(SHARE)
        whole = (capital * (a.end_price * a.end_rate - start) / start).quantize(SHARE)
        return cls(a, local, whole - local, uncut)


def _effects(legs: list[_Leg], equity: Decimal, benchmark_local: Decimal) -> dict[str, Decimal]:
    value = sum((leg.asset.start_value for leg in legs), ZERO)
    weight = sum((leg.asset.weight for leg in legs), ZERO)
    held = sum((leg.asset.held_local for leg in legs), ZERO)
    bench = sum((leg.bench_local for leg in legs), ZERO)
    capital = equity * weight
    if weight == 0:
        at_benchmark, selection = held, ZERO
    else:
        at_benchmark = ((value - capital) * sum((leg.uncut for leg in legs), ZERO) / capital).quantize(SHARE)
        selection = ZERO if value == 0 else (capital * held / value).quantize(SHARE) - bench
    held_currency = sum((leg.asset.held_currency for leg in legs), ZERO)
    return {
        "allocation": at_benchmark - _bet(legs, equity, benchmark_local),
        "selection": selection,
        "interaction": held - bench - at_benchmark - selection,
        "timing": sum((leg.asset.pnl for leg in legs), ZERO) - held - held_currency,
        "currency": held_currency - sum((leg.bench_currency for leg in legs), ZERO),
        "costs": -sum((leg.asset.costs for leg in legs), ZERO),
    }


def _bet(legs: list[_Leg], equity: Decimal, benchmark_local: Decimal) -> Decimal:
    # (H - V B) R: what the group's over- or underweight would have made at the return of the whole benchmark.
    excess = sum((leg.asset.start_value - equity * leg.asset.weight for leg in legs), ZERO)
    return (excess * benchmark_local / equity).quantize(SHARE)


def _check(period: Period) -> None:
    prices = [p for a in period.assets for p in (a.start_price, a.end_price, a.start_rate, a.end_rate)]
    if not all(value.is_finite() and value > 0 for value in (period.start_equity, *prices)):
        raise InvariantError(f"period {period.name}: equity, prices and rates must be positive")
    if len({a.asset for a in period.assets}) != len(period.assets):
        raise InvariantError(f"period {period.name}: an asset is there twice")
