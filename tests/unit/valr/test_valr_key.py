from __future__ import annotations

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from helios.venues.valr.key import SocketKey
from helios.venues.valr.signing import sign

MS = 1_000_000


def upgrade_refused(status: int) -> InvalidStatus:
    return InvalidStatus(Response(status, "", Headers()))


def closed(code: int) -> ConnectionClosedError:
    return ConnectionClosedError(Close(code, ""), None, None)


def test_an_upgrade_is_signed_at_the_venues_time() -> None:
    assert SocketKey("k", "s").headers("/ws/trade", 1_558_014_486_185 * MS + 999_999) == {
        "X-VALR-API-KEY": "k",
        "X-VALR-SIGNATURE": sign("s", 1_558_014_486_185, "GET", "/ws/trade"),
        "X-VALR-TIMESTAMP": "1558014486185",
    }


@pytest.mark.parametrize(("key", "secret"), [("", ""), ("k", ""), ("", "s")])
def test_half_a_key_is_none(key: str, secret: str) -> None:
    assert SocketKey(key, secret).headers("/ws/trade", 0) == {}


@pytest.mark.parametrize("error", [upgrade_refused(401), upgrade_refused(403), closed(1007)])
def test_a_refused_key_is_given_up_once_and_for_all(error: Exception) -> None:
    key = SocketKey("k", "s")
    assert key.gives_up(error)
    assert key.headers("/ws/trade", 0) == {}
    assert not key.gives_up(error)


@pytest.mark.parametrize(
    "error", [upgrade_refused(429), upgrade_refused(503), closed(1001), TimeoutError(), ConnectionClosedError(None, None)]
)
def test_an_outage_says_nothing_about_the_key(error: Exception) -> None:
    key = SocketKey("k", "s")
    assert not key.gives_up(error)
    assert key.is_set


def test_a_key_never_shows_itself() -> None:
    assert repr(SocketKey("k-1", "s-2")) == "SocketKey(set)"
