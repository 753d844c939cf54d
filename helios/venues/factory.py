"""Which venue a name means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helios.config import VenueConfig, venue_credentials
from helios.domain.enums import MarketKind
from helios.domain.market import Instrument
from helios.errors import ConfigError
from helios.venues.base import MarketVenue
from helios.venues.budget import RequestBudget
from helios.venues.ccxt.limits import ccxt_rates
from helios.venues.ccxt.support import VENUES
from helios.venues.gcra import Rate
from helios.venues.local_budget import LocalBudget
from helios.venues.valr.limits import relaxed_rates, valr_rates
from helios.venues.valr.session import BOOK_EVENT, CANDLE_EVENT, TRADE_EVENT
from helios.venues.valr.transport import ValrVenue

VALR_REST = "https://api.valr.com"
VALR_WS = "wss://api.valr.com/ws/trade"
OWN = ("sandbox", "valr")


def make_venue(config: VenueConfig, budget: RequestBudget | None = None, instruments: Sequence[Instrument] = ()) -> MarketVenue:
    """Return the client of the configured venue; the sandbox speaks VALR's protocol at its own address.

    ccxt is imported only for a venue that goes through it.

    Parameters
    ----------
    config : VenueConfig
        Name, addresses and limits.
    budget : RequestBudget, optional
        Shared by everybody who asks this venue; one of this process alone if not given.
    instruments : sequence of Instrument
        Those already known to the caller; VALR's client then need not ask for them.

    Raises
    ------
    ConfigError
        If the venue is unknown, has no markets of the kind or no test site, or the sandbox's address is missing.
    """
    check_venue(config)
    if config.name in VENUES:
        return _ccxt_venue(config, budget)
    if config.name == "sandbox" and not config.rest_url:
        raise ConfigError("the sandbox's address is not set (venue.rest_url, venue.ws_url)")
    return _valr_venue(config, budget, instruments)


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """What a venue allows one address: by whose name it is counted, and how much of each route."""

    name: str
    rates: Mapping[str, Rate]


def shared_limits(config: VenueConfig) -> SharedLimits | None:
    """Return what all processes that ask the configured venue must keep to together; None for our own sandbox.

    Raises
    ------
    ConfigError
        As `check_venue`.
    """
    check_venue(config)
    if config.name == "sandbox":
        return None
    if config.name == "valr":
        return SharedLimits("valr", valr_rates(config.rest_requests_per_s))
    access = VENUES[config.name].access(MarketKind(config.market_kind))
    return SharedLimits(access.ccxt_id + ("-test" if config.sandbox else ""), ccxt_rates(access))


def check_venue(config: VenueConfig) -> None:
    """Raise ConfigError if the venue is unknown, has no markets of the kind, or no test site where one is wanted."""
    if config.name in OWN:
        return
    if config.name not in VENUES:
        raise ConfigError(f"unknown venue {config.name!r}: {', '.join([*OWN, *VENUES])}")
    access = VENUES[config.name].access(MarketKind(config.market_kind))
    if config.sandbox and not access.has_sandbox:
        raise ConfigError(f"{config.name} has no test site for {config.market_kind} markets: unset venue.sandbox")


def _valr_venue(config: VenueConfig, budget: RequestBudget | None, instruments: Sequence[Instrument]) -> ValrVenue:
    is_sandbox = config.name == "sandbox"
    rates = relaxed_rates(config.rest_requests_per_s) if is_sandbox else valr_rates(config.rest_requests_per_s)
    return ValrVenue(
        rest_url=config.rest_url or VALR_REST,
        ws_url=config.ws_url or VALR_WS,
        speed=config.speed if is_sandbox else 1.0,
        rest_timeout_s=config.rest_timeout_s,
        budget=budget or LocalBudget(rates),
        silence_timeout_s=config.silence_timeout_s,
        events=(BOOK_EVENT, TRADE_EVENT, CANDLE_EVENT),
        # Signed for VALR's own address only: a key is nothing to show to another one.
        credentials=("", "") if is_sandbox or config.ws_url else venue_credentials("valr"),
        watches_clock=not is_sandbox,
        instruments=instruments,
    )


def _ccxt_venue(config: VenueConfig, budget: RequestBudget | None) -> MarketVenue:
    from helios.venues.ccxt.client import Endpoint
    from helios.venues.ccxt.venue import CcxtVenue

    key, secret = venue_credentials(config.name) if VENUES[config.name].needs_key_for_candles else ("", "")
    endpoint = Endpoint(config.rest_url, config.ws_url, config.sandbox, config.rest_timeout_s, key, secret)
    return CcxtVenue(
        VENUES[config.name], MarketKind(config.market_kind), endpoint, budget, silence_timeout_s=config.silence_timeout_s
    )
