"""The table of venues agrees with ccxt, the page with the table, and the factory with both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ccxt.async_support
import ccxt.pro
import pytest

from helios.config import VenueConfig, venue_credentials
from helios.domain.enums import MarketKind, Timeframe
from helios.errors import ConfigError
from helios.venues.ccxt.client import Endpoint, moved
from helios.venues.ccxt.support import VENUES, Access, VenueSupport
from helios.venues.ccxt.venue import CcxtVenue
from helios.venues.factory import check_venue, make_venue
from helios.venues.page import render

PAGE = Path(__file__).resolve().parents[3] / "docs/venues.md"
WAYS = [(v, kind, access) for v in VENUES.values() for kind, access in (("spot", v.spot), ("perp", v.perp)) if access is not None]


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text() == render()


@pytest.mark.parametrize(("venue", "kind", "access"), WAYS, ids=lambda value: getattr(value, "ccxt_id", None))
def test_the_table_says_what_ccxt_says(venue: VenueSupport, kind: str, access: Access) -> None:
    exchange = getattr(ccxt.pro if access.streams else ccxt.async_support, access.ccxt_id)()
    assert access.has_sandbox == bool(exchange.urls.get("test"))
    assert access.spacing_ms == exchange.rateLimit
    assert {t.value for t in Timeframe} <= set(exchange.timeframes)
    assert exchange.has["fetchOHLCV"]
    assert exchange.has["fetchTrades"]
    assert exchange.has["fetchOrderBook"]
    if access.streams:
        assert exchange.has["watchTradesForSymbols"]
        assert exchange.has["watchOrderBookForSymbols"]
    if not venue.has_clock:
        assert not exchange.has["fetchTime"]


def test_only_where_ccxt_has_no_socket_or_wants_a_key_is_polled() -> None:
    polled = {v.name for v, _, access in WAYS if not access.streams}
    assert polled == {"delta", "luno"}
    assert not hasattr(ccxt.pro, "delta")


@pytest.mark.parametrize("name", list(VENUES))
def test_every_venue_can_be_made(name: str) -> None:
    assert isinstance(make_venue(VenueConfig(name=name)), CcxtVenue)


@pytest.mark.parametrize(("config", "message"), [
    ({"name": "mtgox"}, "unknown venue 'mtgox': sandbox, valr, binance, bybit, okx, kraken, coinbase, delta, luno"),
    ({"name": "luno", "market_kind": "perp"}, "set venue.market_kind to spot"),
    ({"name": "coinbase", "sandbox": True}, "no test site"),
    ({"name": "kraken", "sandbox": True}, "no test site for spot"),
])  # fmt: skip
def test_what_cannot_be_had_is_said_before_anything_starts(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_venue(VenueConfig.model_validate(config))
    with pytest.raises(ConfigError, match=message):
        make_venue(VenueConfig.model_validate(config))


def test_ccxt_is_not_imported_for_other_venues() -> None:
    code = "import sys, helios.venues.factory as f; from helios.config import VenueConfig as C; "
    code += "f.make_venue(C(name='valr')); f.check_venue(C(name='binance')); sys.exit('ccxt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_addresses_are_moved_as_a_tree() -> None:
    urls = {"public": "https://api.x.com/api/v3", "ws": {"spot": "wss://s.x.com:9443/ws"}, "rest": "https://{hostname}", "n": None}
    assert moved(urls, "http://127.0.0.1:1", "ws://127.0.0.1:2/p/") == {
        "public": "http://127.0.0.1:1/api/v3", "ws": {"spot": "ws://127.0.0.1:2/p/ws"}, "rest": "http://127.0.0.1:1", "n": None,
    }  # fmt: skip
    assert moved(urls, "", "") == urls


def test_a_key_counts_only_with_its_secret() -> None:
    env = {"LUNO_API_KEY": "k", "LUNO_API_SECRET": "s", "BYBIT_API_KEY": "k"}
    assert venue_credentials("luno", env) == ("k", "s")
    assert venue_credentials("bybit", env) == ("", "")


def test_a_key_is_never_shown() -> None:
    assert "hidden" not in repr(Endpoint(api_key="hidden", secret="hidden"))


def test_the_kind_chooses_the_way() -> None:
    assert VENUES["binance"].access(MarketKind.PERP).ccxt_id == "binanceusdm"
    assert VENUES["kraken"].access(MarketKind.SPOT).ccxt_id == "kraken"
