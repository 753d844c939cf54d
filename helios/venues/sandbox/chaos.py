"""Which fault happens to a frame, a socket or an answer: decisions only, the server carries them out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import orjson

from helios.venues.sandbox.faults import FaultPlan, Json

DIFFS = frozenset({"OB_L1_DIFF", "FULL_ORDERBOOK_UPDATE"})
TRADE = "NEW_TRADE"
MALFORMED = ("negative_price", "zero_quantity", "empty_symbol", "truncated_json", "unknown_type")

Count = Callable[[str], None]
Channel = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A frame to send.

    Attributes
    ----------
    frame : bytes
    late_market_s : float
        Send it only after so much market time.
    pause_wall_s : float
        The socket pauses so long before it, and with it everything behind.
    """

    frame: bytes
    late_market_s: float = 0.0
    pause_wall_s: float = 0.0


class SocketChaos:
    """Decides for the frames of one socket.

    Parameters
    ----------
    random : Random
        Source of all chance; one of its own per socket, so that equal frames meet equal faults.
    count : callable
        Told the kind of each fault.
    """

    def __init__(self, random: Random, count: Count) -> None:
        self._random = random
        self._count = count
        self._held: dict[Channel, Delivery] = {}
        self._malformed = 0

    def deliveries(self, plan: FaultPlan, channel: Channel, frame: bytes) -> list[Delivery]:
        """Return what the socket gets instead of `frame`, in order."""
        event = channel[0]
        found = (
            self._diff(plan, event, frame) if event in DIFFS else self._trade(plan, frame) if event == TRADE else [Delivery(frame)]
        )
        found = self._in_some_order(plan, channel, found)
        if found and self._happens(plan.slow_frames, "slow_frames"):
            found[0] = Delivery(found[0].frame, found[0].late_market_s, plan.slow_frames_wall_s)
        return found

    def is_cut(self, plan: FaultPlan, elapsed_s: float) -> bool:
        """Whether the socket is dropped in this interval of wall time."""
        return self._happens(share_within(plan.cut_socket_every_s, elapsed_s), "cut_socket")

    def falls_silent(self, plan: FaultPlan, elapsed_s: float) -> bool:
        """Whether a silence begins in this interval of wall time."""
        return self._happens(share_within(plan.silence_every_s, elapsed_s), "silence")

    def _diff(self, plan: FaultPlan, event: str, frame: bytes) -> list[Delivery]:
        if self._happens(plan.drop_diff, "drop_diff"):
            return []
        if event == "OB_L1_DIFF" and self._happens(plan.wrong_checksum, "wrong_checksum"):
            frame = with_wrong_checksum(frame)
        return [Delivery(frame)] * (2 if self._happens(plan.double_diff, "double_diff") else 1)

    def _trade(self, plan: FaultPlan, frame: bytes) -> list[Delivery]:
        found: list[Delivery] = []
        if self._happens(plan.malformed, "malformed"):
            kind = MALFORMED[self._malformed % len(MALFORMED)]
            self._malformed += 1
            self._count(f"malformed_{kind}")
            found.append(Delivery(spoiled(kind, frame)))
        late = 0.0
        if self._happens(plan.late_trade, "late_trade"):
            late = self._random.uniform(0.05, 1.0) * plan.late_trade_market_s
        found.append(Delivery(frame, late))
        if self._happens(plan.double_trade, "double_trade"):
            found.append(Delivery(frame))
        return found

    def _in_some_order(self, plan: FaultPlan, channel: Channel, found: list[Delivery]) -> list[Delivery]:
        # A held frame comes after the next one of its channel; of a channel that stays quiet it never comes.
        held = self._held.pop(channel, None)
        if held is not None:
            return [*found, held]
        if len(found) == 1 and (channel[0] in DIFFS or channel[0] == TRADE) and self._happens(plan.reorder, "reorder"):
            self._held[channel] = found[0]
            return []
        return found

    def _happens(self, share: float, kind: str) -> bool:
        if share <= 0.0 or self._random.random() >= share:
            return False
        self._count(kind)
        return True


@dataclass(frozen=True, slots=True)
class ReplyFaults:
    """What happens to one REST answer.

    Attributes
    ----------
    status : int
        429 (rate limited), 502 or 400 (both HTML) instead of the answer, 0 for none.
    retry_after_s : int, optional
        Of a 429.
    delay_wall_s : float
        Wait so long before answering.
    age_market_s : float
        Answer as the market was so long ago.
    page : str
        "empty_page", "short_page", "missing_newest", or "" for the whole page.
    """

    status: int = 0
    retry_after_s: int | None = None
    delay_wall_s: float = 0.0
    age_market_s: float = 0.0
    page: str = ""


def reply_faults(plan: FaultPlan, route: str, random: Random, count: Count) -> ReplyFaults:
    """Decide for one REST request.

    Parameters
    ----------
    plan : FaultPlan
    route : str
        Name of the route without the pair: "orderbook", "trades", "buckets", "time", ...
    random : Random
    count : callable
        Told the kind of each fault, except of pages: what is not on a page cannot be taken from it, so the server counts them.
    """

    def happens(share: float, kind: str) -> bool:
        if share <= 0.0 or random.random() >= share:
            return False
        count(kind)
        return True

    delay = plan.slow_response_wall_s if happens(plan.slow_response, "slow_response") else 0.0
    if happens(plan.rate_limited, "rate_limited"):
        return ReplyFaults(429, random.randint(1, 5) if random.random() < 0.5 else None, delay)
    if happens(plan.html_errors, "html_errors"):
        return ReplyFaults(502 if random.random() < 0.5 else 400, None, delay)
    age, page = 0.0, ""
    if route in ("orderbook", "orderbook/full", "trades") and happens(plan.stale_cache, "stale_cache"):
        age = random.random() * plan.stale_cache_market_s
    if route == "buckets":
        age = plan.candle_lag_market_s if happens(plan.candle_lag, "candle_lag") else 0.0
        kinds = ("empty_page", "short_page", "missing_newest")
        page = next((kind for kind in kinds if random.random() < getattr(plan, kind)), "")
    return ReplyFaults(0, None, delay, age, page)


def cut_page(page: str, rows: list[Json]) -> list[Json]:
    """Return what is left of a page, newest first."""
    if page == "empty_page":
        return []
    if page == "short_page":
        return rows[: (len(rows) + 1) // 2]
    return rows[1:] if page == "missing_newest" else rows


def clock_error_ns(plan: FaultPlan, since_start_ns: int) -> int:
    """Return what the venue's clock shows more than market time, ns, `since_start_ns` of market time after the plan began."""
    return round(plan.clock_skew_ms * 1e6 + plan.clock_drift_ppm * 1e-6 * since_start_ns)


def refusal(plan: FaultPlan, random: Random, count: Count) -> int:
    """Return the status with which an upgrade is refused, 0 for none."""
    if plan.refuse_connect <= 0.0 or random.random() >= plan.refuse_connect:
        return 0
    count("refuse_connect")
    return 429 if random.random() < 0.5 else 503


def share_within(every_s: float, elapsed_s: float) -> float:
    """Return the chance that an event of mean interval `every_s` happens within `elapsed_s` (a Poisson process); 0 is never."""
    return 0.0 if every_s <= 0.0 else -math.expm1(-elapsed_s / every_s)


def with_wrong_checksum(frame: bytes) -> bytes:
    """Return an OB_L1_DIFF frame whose checksum is off by one bit."""
    message = orjson.loads(frame)
    message["d"]["cs"] ^= 1
    return orjson.dumps(message)


def spoiled(kind: str, frame: bytes) -> bytes:
    """Return a broken frame made of a NEW_TRADE frame, with an identifier of its own.

    Parameters
    ----------
    kind : str
        One of `MALFORMED`.
    frame : bytes
    """
    if kind == "truncated_json":
        return frame[: len(frame) // 2]
    message = orjson.loads(frame)
    message["data"]["id"] = "bad0" + message["data"]["id"][4:]
    if kind == "negative_price":
        message["data"]["price"] = "-100.50"
    elif kind == "zero_quantity":
        message["data"]["quantity"] = "0"
    elif kind == "empty_symbol":
        message["currencyPairSymbol"] = message["data"]["currencyPair"] = ""
    else:
        message["type"] = "NEW_TRADE_OF_TOMORROW"
    return orjson.dumps(message)
