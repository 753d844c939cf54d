"""Which venue a name means."""

from __future__ import annotations

from helios.config import VenueConfig, valr_credentials
from helios.errors import ConfigError
from helios.venues.base import MarketVenue
from helios.venues.budget import RequestBudget
from helios.venues.local_budget import LocalBudget
from helios.venues.valr.limits import relaxed_rates, valr_rates
from helios.venues.valr.session import BOOK_EVENT, CANDLE_EVENT, TRADE_EVENT
from helios.venues.valr.transport import ValrVenue

VALR_REST = "https://api.valr.com"
VALR_WS = "wss://api.valr.com/ws/trade"


def make_venue(config: VenueConfig, budget: RequestBudget | None = None) -> MarketVenue:
    """Return the client of the configured venue; the sandbox speaks VALR's protocol at its own address.

    Parameters
    ----------
    config : VenueConfig
    budget : RequestBudget, optional
        Shared by everybody who asks this venue; one of this process alone if not given.

    Raises
    ------
    ConfigError
        If the venue is unknown or the sandbox's address is missing.
    """
    if config.name not in ("valr", "sandbox"):
        raise ConfigError(f"unknown venue {config.name!r}: sandbox or valr")
    if config.name == "sandbox" and not config.rest_url:
        raise ConfigError("the sandbox's address is not set (venue.rest_url, venue.ws_url)")
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
        credentials=None if is_sandbox else valr_credentials(),
        watches_clock=not is_sandbox,
    )
