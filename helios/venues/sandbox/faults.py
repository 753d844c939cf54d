"""What may go wrong at the sandbox exchange: the plan, how it is read, and how often each fault was injected.

Shares are probabilities of a frame or a request (0 to 1). Names that end in `_every_s` are mean intervals in wall seconds (0: off),
`_wall_s` are lengths in wall seconds, `_market_s` and `_ms` lengths in market time: at speed 60 an answer that is 30 market
seconds old was made half a wall second ago, so that the lag stays the same share of a candle at every speed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from helios.errors import ConfigError

Json = dict[str, Any]

SHARES = (
    "drop_diff", "double_diff", "wrong_checksum", "double_trade", "late_trade", "reorder", "malformed", "slow_frames",
    "refuse_connect", "stale_cache", "candle_lag", "rate_limited", "html_errors", "slow_response", "empty_page", "short_page",
    "missing_newest",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which faults are injected and how often; all off by default.

    Attributes
    ----------
    seed : int
        Equal seeds, connections and frames give equal faults.
    drop_diff : float
        Share of book changes (OB_L1_DIFF, FULL_ORDERBOOK_UPDATE) that a socket does not get while the sequence goes on.
    double_diff, double_trade : float
        Share of book changes, and of trades, that a socket gets twice.
    wrong_checksum : float
        Share of OB_L1_DIFF frames whose checksum is off by one bit.
    late_trade, late_trade_market_s : float
        Share of trades that come late, by up to so many market seconds (uniform), so that some come in the next minute.
    reorder : float
        Share of trades and book changes that come after the next frame of their channel.
    malformed : float
        Share of trades before which a broken frame is sent: price -100.50, quantity 0, empty symbol, cut JSON, unknown type.
        The trade itself still comes.
    slow_frames, slow_frames_wall_s : float
        Share of frames before which the socket pauses, and for how long.
    cut_socket_every_s : float
        Mean interval at which a socket is dropped without a close frame.
    silence_every_s, silence_wall_s : float
        Mean interval at which a socket falls silent while it stays open, and for how long; frames of that time are lost, and
        pings stay unanswered.
    refuse_connect : float
        Share of upgrades answered with 429 or 503.
    stale_cache, stale_cache_market_s : float
        Share of books and trades over REST that are up to so old, with the `age` header.
    candle_lag, candle_lag_market_s : float
        Share of bucket answers that know the market as it was so long ago.
    rate_limited : float
        Share of REST requests answered with 429, half of them with Retry-After.
    html_errors : float
        Share of REST requests answered with a page of HTML, as the venue's front end does: 502, or 400 for a request that is
        perfectly well-formed, half each.
    slow_response, slow_response_wall_s : float
        Share of REST answers that take so much longer.
    empty_page, short_page, missing_newest : float
        Share of bucket answers that are empty, that end half-way, or that lack their newest bucket.
    clock_skew_ms, clock_drift_ppm : float
        What /time adds to market time: a constant, and a drift in millionths of the market time since the plan began.
    """

    seed: int = 0
    drop_diff: float = 0.0
    double_diff: float = 0.0
    wrong_checksum: float = 0.0
    double_trade: float = 0.0
    late_trade: float = 0.0
    late_trade_market_s: float = 20.0
    reorder: float = 0.0
    malformed: float = 0.0
    slow_frames: float = 0.0
    slow_frames_wall_s: float = 0.05
    cut_socket_every_s: float = 0.0
    silence_every_s: float = 0.0
    silence_wall_s: float = 8.0
    refuse_connect: float = 0.0
    stale_cache: float = 0.0
    stale_cache_market_s: float = 30.0
    candle_lag: float = 0.0
    candle_lag_market_s: float = 60.0
    rate_limited: float = 0.0
    html_errors: float = 0.0
    slow_response: float = 0.0
    slow_response_wall_s: float = 0.5
    empty_page: float = 0.0
    short_page: float = 0.0
    missing_newest: float = 0.0
    clock_skew_ms: float = 0.0
    clock_drift_ppm: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
                raise ConfigError(f"fault {field.name}: {value!r} is not a number")
            if field.name in SHARES and not 0 <= value <= 1:
                raise ConfigError(f"fault {field.name}: {value} is not a share between 0 and 1")
            if field.name.endswith("_s") and value < 0:
                raise ConfigError(f"fault {field.name}: {value} is below 0")
        if not isinstance(self.seed, int):
            raise ConfigError(f"fault seed: {self.seed!r} is not a whole number")

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is injected."""
        rates = (*SHARES, "cut_socket_every_s", "silence_every_s", "clock_skew_ms", "clock_drift_ppm")
        return not any(getattr(self, name) for name in rates)

    def to_json(self) -> Json:
        """Return the plan as plain values."""
        return asdict(self)


NO_FAULTS = FaultPlan()
ALL = FaultPlan(
    drop_diff=0.002, double_diff=0.002, wrong_checksum=0.001, double_trade=0.005, late_trade=0.01, late_trade_market_s=20.0,
    reorder=0.005, malformed=0.005, slow_frames=0.002, cut_socket_every_s=90.0, silence_every_s=240.0, silence_wall_s=8.0,
    refuse_connect=0.1, stale_cache=0.3, candle_lag=0.05, rate_limited=0.02, html_errors=0.01, slow_response=0.05,
    empty_page=0.01, short_page=0.01, missing_newest=0.02, clock_skew_ms=250.0, clock_drift_ppm=50.0,
)  # fmt: skip
"""Everything at moderate rates: a desk must trade through it."""


def plan_of(value: object) -> FaultPlan:
    """Return the plan that decoded JSON describes: "all", or an object of which missing keys are off.

    Raises
    ------
    ConfigError
        If a key is unknown or a value out of range.
    """
    if value == "all":
        return ALL
    if not isinstance(value, dict):
        raise ConfigError('faults: expected "all" or an object')
    unknown = sorted(set(value) - {field.name for field in fields(FaultPlan)})
    if unknown:
        raise ConfigError(f"faults: unknown {', '.join(map(str, unknown))}")
    return FaultPlan(**value)


def read_plan(text: str) -> FaultPlan:
    """Return the plan of a command line or a setting: empty (no faults), `all`, JSON, or the name of a file with JSON.

    Raises
    ------
    ConfigError
        If it is none of these or describes no plan.
    """
    text = text.strip()
    if text in ("", "all"):
        return ALL if text else FaultPlan()
    try:
        return plan_of(orjson.loads(text if text.startswith(("{", '"')) else Path(text).read_bytes()))
    except OSError as error:
        raise ConfigError(f"faults: {text} cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"faults: not JSON: {error}") from error


class FaultCounts:
    """How often each fault was carried out, by kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, kind: str) -> None:
        """Count one."""
        self._counts[kind] += 1

    def as_dict(self) -> Mapping[str, int]:
        """Return the counts in alphabetical order."""
        return dict(sorted(self._counts.items()))
