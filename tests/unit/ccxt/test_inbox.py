"""Between ccxt's callbacks and the reader."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from helios.domain.market import BookUpdate, Trade
from helios.errors import TransportError
from helios.venues.ccxt import inbox as module
from helios.venues.ccxt.inbox import Inbox, SeenTrades
from helios.venues.ccxt.mapping import ExactNumber

S = "A/B"


def make(seen: SeenTrades | None = None, n_levels: int = 3) -> Inbox:
    return Inbox({S: Decimal(1)}, seen or SeenTrades(), lambda: 99, n_levels)


def trade(number: int, **changes: Any) -> dict[str, Any]:
    return {"symbol": S, "id": str(number), "price": 1.0, "amount": 2.0, "side": "sell", "timestamp": 1_000 + number} | changes


def book(bids: dict[str, str], asks: dict[str, str], timestamp: int | None = 7) -> dict[str, Any]:
    sides = [[[ExactNumber(p), ExactNumber(q)] for p, q in side.items()] for side in (bids, asks)]
    return {"symbol": S, "bids": sides[0], "asks": sides[1], "timestamp": timestamp}


def updates(box: Inbox) -> list[BookUpdate]:
    return [event for event in box.take() if isinstance(event, BookUpdate)]


def test_a_trade_comes_once_across_connections() -> None:
    seen = SeenTrades()
    first, second = make(seen), make(seen)
    for box, numbers in ((first, (1, 2)), (second, (1, 2, 3))):
        for number in numbers:
            box.on_trade(trade(number))
    assert [t.trade_id for t in first.take() if isinstance(t, Trade)] == ["1", "2"]
    assert [t.trade_id for t in second.take() if isinstance(t, Trade)] == ["3"]


def test_only_so_many_trades_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_TRADES", 2)
    box = make()
    for number in (1, 2, 3, 1):
        box.on_trade(trade(number))
    assert [t.trade_id for t in box.take() if isinstance(t, Trade)] == ["1", "2", "3", "1"]


def test_malformed_and_foreign_trades_are_counted() -> None:
    box = make()
    box.on_trade(trade(1, side=None))
    box.on_trade(trade(2, symbol="X/Y"))
    box.on_trade({})
    assert list(box.take()) == []
    assert box.malformed == 3
    assert "not subscribed" in box.last_error


def test_a_reader_too_slow_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_TRADES", 2)
    box = make()
    box.on_trade(trade(1))
    box.on_trade(trade(2))
    with pytest.raises(TransportError, match="too slow"):
        box.on_trade(trade(3))


def test_the_window_is_followed_by_changes() -> None:
    box = make(n_levels=2)
    box.on_book(book({"10": "1", "9": "1", "8": "1"}, {"11": "1"}))
    assert updates(box) == [BookUpdate(S, True, (("10", "1"), ("9", "1")), (("11", "1"),), 1, None, 7_000_000, 99)]
    box.on_book(book({"10": "5", "8": "1"}, {"11": "1"}))
    assert updates(box) == [BookUpdate(S, False, (("9", "0"), ("10", "5"), ("8", "1")), (), 2, None, 7_000_000, 99)]
    box.on_book(book({"10": "5", "8": "1", "7": "9"}, {"11": "1"}))  # below the window
    assert updates(box) == []


def test_several_changes_before_a_read_are_one() -> None:
    box = make()
    kept = book({"10": "1"}, {"11": "1"})
    box.on_book(kept)
    updates(box)
    for quantity in ("2", "3", "4"):
        kept["bids"][0][1] = ExactNumber(quantity)  # ccxt changes its book in place
        box.on_book(kept)
    (update,) = updates(box)
    assert (update.bids, update.sequence) == ((("10", "4"),), 2)


def test_a_book_without_time_gets_ours() -> None:
    box = make()
    box.on_book(book({"10": "1"}, {}, timestamp=None))
    assert updates(box)[0].ts_event == 99


def test_a_resent_book_is_a_snapshot() -> None:
    box = make()
    assert not box.resend_book(S)
    box.on_book(book({"10": "1"}, {"11": "1"}))
    updates(box)
    assert box.resend_book(S)
    (update,) = updates(box)
    assert (update.is_snapshot, update.sequence) == (True, 2)


def test_a_book_crossed_for_a_moment_is_held_back_and_for_long_is_lost() -> None:
    box = make()
    for _ in range(3):
        box.on_book(book({"10": "1"}, {"9": "1"}))
        assert updates(box) == []
    box.on_book(book({"10": "1"}, {"11": "1"}))
    assert len(updates(box)) == 1
    for _ in range(module.MAX_CROSSED - 1):
        box.on_book(book({"12": "1"}, {"11": "1"}))
        assert updates(box) == []
    box.on_book(book({"12": "1"}, {"11": "1"}))
    with pytest.raises(TransportError, match="stays crossed"):
        updates(box)


def test_a_malformed_level_is_counted() -> None:
    box = make()
    box.on_book(book({"0": "1"}, {"11": "1"}))
    assert updates(box) == []
    assert box.malformed == 1


def test_a_foreign_book_is_ignored() -> None:
    box = make()
    box.on_book(book({"10": "1"}, {"11": "1"}) | {"symbol": "X/Y"})
    assert (list(box.take()), box.received) == ([], 0)
