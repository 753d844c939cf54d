"""What each venue offers through ccxt, as a table; `docs/venues.md` is written from it (`helios.venues.page`).

Source: ccxt 4.5.90 as installed (`has`, `urls`, `timeframes`, the code of the methods named below), read 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from helios.domain.enums import MarketKind
from helios.errors import ConfigError

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Access:
    """How one kind of market of a venue is reached.

    Attributes
    ----------
    ccxt_id : str
        Name of the exchange class.
    streams : bool
        Trades and books come by WebSocket (ccxt.pro) without a key; else Helios asks for them in turn by REST.
    has_sandbox : bool
        ccxt knows the venue's own test site.
    spacing_ms : int
        Time in which the venue lets one request of weight 1 pass, ccxt's `rateLimit`.
    options : mapping
        What Helios sets in the exchange's `options`.
    """

    ccxt_id: str
    streams: bool
    has_sandbox: bool
    spacing_ms: int
    options: Options = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VenueSupport:
    """One venue.

    Attributes
    ----------
    name : str
        As in `venue.name` and `--venue`.
    spot, perp : Access or None
        None where Helios has no way in.
    sandbox : str
        How the venue's own test site is reached; empty where there is none.
    candle_limit : int
        Candles in one answer.
    has_until : bool
        The end of a candle request can be given; else the venue answers from its start to the present.
    book_depth : int or None
        Depth to subscribe, where the venue wants one of a few; None leaves the choice to ccxt.
    has_clock : bool
        The venue tells its time; else the local clock is taken for it.
    fills_holes : bool
        The venue leaves out candles of periods without a trade; Helios puts flat ones between two that it has.
    candles_in_contracts : bool
        Volumes of perpetuals' candles come in contracts, like their trades and books; else in base units.
    is_maker_side : bool
        The side in public trades is that of the resting order.
    needs_key_for_candles : bool
        Candles are asked with an API key.
    quirks : tuple of str
        What a user should know.
    tested, untested : str
        On what the code was tried, and what was not.
    """

    name: str
    spot: Access | None
    perp: Access | None
    sandbox: str
    candle_limit: int
    has_until: bool = True
    book_depth: int | None = None
    has_clock: bool = True
    fills_holes: bool = False
    candles_in_contracts: bool = False
    is_maker_side: bool = False
    needs_key_for_candles: bool = False
    quirks: tuple[str, ...] = ()
    tested: str = ""
    untested: str = ""

    def access(self, kind: MarketKind) -> Access:
        """Return the way in for a kind of market; raises ConfigError where there is none."""
        chosen = self.spot if kind is MarketKind.SPOT else self.perp
        if chosen is None:
            other = MarketKind.PERP if kind is MarketKind.SPOT else MarketKind.SPOT
            raise ConfigError(f"{self.name} has no {kind.value} markets here: set venue.market_kind to {other.value}")
        return chosen


def _types(*names: str) -> dict[str, Any]:
    return {"fetchMarkets": {"types": list(names)}}


VENUES: Mapping[str, VenueSupport] = MappingProxyType({v.name: v for v in (
    VenueSupport(
        "binance",
        spot=Access("binance", True, True, 50, {**_types("spot"), "defaultType": "spot"}),
        perp=Access("binanceusdm", True, True, 50, {**_types("linear"), "watchTradesForSymbols": {"name": "aggTrade"}}),
        sandbox="testnet.binance.vision, testnet.binancefuture.com",
        candle_limit=1000,
        quirks=(
            "A 429 that is not obeyed becomes a 418, a ban of the address; both carry Retry-After and both are obeyed.",
            "Perpetuals use the documented aggregate trades; spot uses single trades.",
            "The test site is wiped about once a month.",
            "Each book starts with a snapshot of 1,000 levels; ccxt's limiter spaces those about a second apart.",
        ),
        tested="recordings of spot 2021-10 and USDT perpetuals 2021-07 and 2024-07-18 (markets, snapshots, trades, books); "
        "candles, paging, 429, 418 and error bodies on a local server",
        untested="the live site; the disconnect after 24 h",
    ),
    VenueSupport(
        "bybit",
        spot=Access("bybit", True, True, 20, {**_types("spot"), "defaultType": "spot"}),
        perp=Access("bybit", True, True, 20, {**_types("linear"), "defaultType": "swap"}),
        sandbox="api-testnet.bybit.com, stream-testnet.bybit.com",
        candle_limit=1000,
        book_depth=200,
        quirks=("Book messages have no check that ccxt makes: a frame that cannot be read starts the connection anew.",),
        tested="recording of 2026-08 (spot and perpetual markets, trades, books); candles on a local server in the documented form",
        untested="the live site",
    ),
    VenueSupport(
        "okx",
        spot=Access("okx", True, True, 110, {**_types("spot"), "defaultType": "spot"}),
        perp=Access("okx", True, True, 110, {**_types("swap"), "defaultType": "swap"}),
        sandbox="header x-simulated-trading, wspap.okx.com",
        candle_limit=300,
        quirks=(
            "Perpetuals are counted in contracts at the venue; Helios shows base units.",
            "Book continuity is checked by ccxt (prevSeqId) where the venue sends it; the old checksum is not.",
        ),
        tested="recording of spot 2022-05 (markets, trades, books), older than the prevSeqId field; perpetuals, sequence gaps and "
        "candles on a local server in the documented form",
        untested="the live site; a recording of perpetuals",
    ),
    VenueSupport(
        "kraken",
        spot=Access("kraken", True, False, 1000),
        perp=Access("krakenfutures", True, True, 600),
        sandbox="perpetuals only: demo-futures.kraken.com",
        candle_limit=720,
        has_until=False,
        quirks=(
            "Candles: only the newest 720 of a timeframe can be had.",
            "Spot has no test site. Kraken Futures does not tell its time: the local clock is taken for it.",
            "The spot socket sends numbers, not text: quantities keep at most 17 digits.",
        ),
        tested="recording of spot 2021-04 in protocol v1, rewritten frame by frame as v2, which is what ccxt speaks (trades, books); "
        "candles on a local server in the documented form",
        untested="the live site; a real v2 recording; Kraken Futures; book checksums (ccxt has them off)",
    ),
    VenueSupport(
        "coinbase",
        spot=Access("coinbase", True, False, 34, {"defaultType": "spot"}),
        perp=None,
        sandbox="",
        candle_limit=300,
        fills_holes=True,
        is_maker_side=True,
        quirks=(
            "No test site for the Advanced API.",
            "Public trades name the maker's side; Helios turns it, the recording's own quotes confirm it.",
            "Markets in USDC are streamed under the name of their USD twin and bring nothing here: take the USD market.",
            "Periods without a trade have no candle; Helios puts flat ones between two that exist.",
        ),
        tested="recording of 2026-08 (markets, trades, books); candles on a local server in the documented form",
        untested="the live site",
    ),
    VenueSupport(
        "delta",
        spot=Access("delta", False, True, 300),
        perp=Access("delta", False, True, 300),
        sandbox="testnet-api.delta.exchange",
        candle_limit=2000,
        candles_in_contracts=True,
        quirks=(
            "ccxt has no socket for it: trades and books are asked for in turn by REST, so they come seconds late "
            "and prints can be missed in a rush.",
            "Trades have no id: Helios names them by time, price, quantity and side.",
            "India: set venue.rest_url to https://api.india.delta.exchange "
            "(test site https://cdn-ind.testnet.deltaex.org); ccxt knows only the global site.",
            "Perpetuals are counted in contracts at the venue; Helios shows base units.",
        ),
        tested="polling and candles on a local server in the documented form",
        untested="the live sites; any recording; that candle volumes are contracts",
    ),
    VenueSupport(
        "luno",
        spot=Access("luno", False, False, 200),
        perp=None,
        sandbox="",
        candle_limit=1000,
        has_until=False,
        has_clock=False,
        needs_key_for_candles=True,
        quirks=(
            "No test site. The socket and the candles want an API key even for public data; Helios polls trades and books "
            "by REST and asks candles with LUNO_API_KEY and LUNO_API_SECRET.",
            "The venue does not tell its time: the local clock is taken for it.",
        ),
        tested="polling and candles on a local server in the documented form",
        untested="the live site; any recording; the socket; whether the key is accepted",
    ),
)})  # fmt: skip
