"""A book rebuilt from recorded diffs shows, after every one of them, the best bid and ask that the exchange itself announced."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from helios.domain.market import BookUpdate
from helios.market.book import OrderBook
from helios.venues.replay.session import SessionReplay

RECORDED = Path(os.environ.get("HELIOS_REALDATA", Path(__file__).resolve().parents[2].parent / "shared/data/recorded"))
SESSION = RECORDED / "binance-l2-2024-07-18/usdm"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not SESSION.exists(), reason=f"recorded session not found under {RECORDED}"),
]


def messages(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        for line in gzip.decompress(path.read_bytes()).splitlines():
            message = orjson.loads(line.partition(b" ")[2])
            yield message.get("data", message)


@pytest.mark.parametrize("pair", ["BTCUSDT", "ETHUSDT"])
def test_the_best_quotes_after_each_diff_are_the_announced_ones(pair: str) -> None:
    paths = sorted(SESSION.glob(f"{pair}_*.raw.gz"))
    source = SessionReplay(paths)
    updates = [event for event in source.read_until(2**62) if isinstance(event, BookUpdate)]
    recorded = list(messages(paths))
    ids = [message["u"] for message in recorded if message.get("e") == "depthUpdate"]
    quotes = sorted((m["u"], m["b"], m["B"], m["a"], m["A"]) for m in recorded if m.get("e") == "bookTicker")
    diffs = [update for update in updates if not update.is_snapshot]
    book, n_diffs, compared, at = OrderBook(source.instrument.symbol), 0, 0, -1
    for update in updates:
        book.apply(update)  # raises where it crosses
        if update.is_snapshot:
            continue
        final_id = ids[len(ids) - len(diffs) + n_diffs]  # what came before the snapshot was dropped
        n_diffs += 1
        while at + 1 < len(quotes) and quotes[at + 1][0] <= final_id:
            at += 1
        if at >= 0:
            bids, asks = book.levels(1)
            assert (*bids[0], *asks[0]) == quotes[at][1:], f"after {final_id}"
            compared += 1
    assert n_diffs == len(diffs)
    assert compared > 4_000
