"""The picture of `helios allocate`: risk against return of assets, portfolios and the efficient frontier, as one SVG file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np

from helios.cli.allocate_print import Answer
from helios.portfolio.currency import base_of
from helios.portfolio.frontier import YearlyFigures, yearly_figures

WIDTH, HEIGHT = 860, 540
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 46, 52
INK, FAINT, CURVE = "#22303c", "#d5dbe1", "#2b6cb0"
COLOURS = {"proposal": "#c53030", "prior": "#6b46c1", "held": "#2f855a"}
Points = Mapping[str, YearlyFigures]


@dataclass(frozen=True, slots=True)
class _Axis:
    """From figures to pixels, and the round numbers within."""

    low: float
    high: float
    first_px: float
    last_px: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        return self.first_px + (value - self.low) / (self.high - self.low) * (self.last_px - self.first_px)


def picture(answer: Answer) -> str:
    """Return the SVG text. Figures are a year's; the frontier is drawn where the answer has one."""
    known = answer.proposal.estimate
    each = np.eye(len(answer.proposal.symbols))
    assets = {s: yearly_figures(w, known.mu, known.sigma_plus) for s, w in zip(answer.proposal.symbols, each, strict=True)}
    wholes = {"proposal": answer.proposal.figures, "prior": yearly_figures(known.weights_prior, known.mu, known.sigma_plus)}
    if answer.holdings.equity is not None:
        wholes["held"] = yearly_figures(answer.holdings.w0, known.mu, known.sigma_plus)
    frontier = [figures for _, figures in answer.frontier]
    points = [*assets.values(), *wholes.values(), *frontier]
    x = _axis([0.0, *(p.volatility for p in points)], LEFT, WIDTH - RIGHT)
    y = _axis([0.0, *(p.expected_return for p in points)], HEIGHT - BOTTOM, TOP)
    title = (
        f"{answer.settings.objective}, {len(assets)} assets, {answer.proposal.n_rows} days: a year's expected return and volatility"
    )
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="12" fill="{INK}">'
    parts = [*_frame(x, y, title), *_curve(frontier, x, y), *_assets(assets, x, y), *_wholes(wholes, x, y)]
    return "\n".join([head, *parts, "</svg>", ""])


def _axis(values: Sequence[float], first_px: float, last_px: float) -> _Axis:
    low, high = min(values), max(values)
    span = high - low or 1.0
    step = 10.0 ** math.floor(math.log10(span))
    step *= next(m for m in (0.1, 0.2, 0.5, 1.0, 2.0) if span / (step * m) <= 8)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return _Axis(first * step, last * step, first_px, last_px, tuple(n * step for n in range(first, last + 1)))


def _frame(x: _Axis, y: _Axis, title: str) -> Iterator[str]:
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    yield f'<text x="{LEFT}" y="24" font-size="14">{escape(title)}</text>'
    for tick in x.ticks:
        yield f'<path d="M{x.at(tick):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{FAINT}"/>'
        yield f'<text x="{x.at(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_percent(tick)}</text>'
    for tick in y.ticks:
        yield f'<path d="M{LEFT} {y.at(tick):.1f}H{WIDTH - RIGHT}" stroke="{FAINT}"/>'
        yield f'<text x="{LEFT - 8}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{_percent(tick)}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">volatility</text>'
    yield f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">expected return</text>'


def _curve(frontier: Sequence[YearlyFigures], x: _Axis, y: _Axis) -> Iterator[str]:
    if frontier:
        path = " ".join(f"{x.at(p.volatility):.1f},{y.at(p.expected_return):.1f}" for p in frontier)
        yield f'<polyline points="{path}" fill="none" stroke="{CURVE}" stroke-width="2"><title>efficient frontier</title></polyline>'


def _assets(assets: Points, x: _Axis, y: _Axis) -> Iterator[str]:
    for symbol, p in assets.items():
        cx, cy = x.at(p.volatility), y.at(p.expected_return)
        yield f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="4"><title>{escape(_told(symbol, p))}</title></circle>'
        anchor, beside = ("end", cx - 8) if cx > WIDTH - 100 else ("start", cx + 8)
        yield f'<text x="{beside:.1f}" y="{cy + 4:.1f}" text-anchor="{anchor}">{escape(base_of(symbol))}</text>'


def _wholes(wholes: Points, x: _Axis, y: _Axis) -> Iterator[str]:
    for n, (name, p) in enumerate(wholes.items()):
        legend = WIDTH - RIGHT - 90 * (len(wholes) - n)
        told, shape = f"<title>{escape(_told(name, p))}</title>", _diamond(x.at(p.volatility), y.at(p.expected_return))
        yield f'<path d="{shape}" fill="{COLOURS[name]}" data-name="{name}">{told}</path>'
        yield f'<path d="{_diamond(legend, 20)}" fill="{COLOURS[name]}"/><text x="{legend + 12}" y="24">{name}</text>'


def _diamond(cx: float, cy: float) -> str:
    return f"M{cx:.1f} {cy - 7:.1f}l7 7l-7 7l-7 -7z"


def _told(name: str, p: YearlyFigures) -> str:
    ratio = f", Sharpe {p.sharpe:.2f}" if math.isfinite(p.sharpe) else ""
    return f"{name}: {p.expected_return:.2%} at {p.volatility:.2%}{ratio}"


def _percent(value: float) -> str:
    return f"{value * 100:.4g}%"
