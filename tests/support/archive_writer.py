"""A process that writes candles to an archive for ever, day by day, and prints each day once it is committed: to be killed.

`python -m tests.support.archive_writer ROOT SEED FIRST_DAY STEP`: days FIRST_DAY, FIRST_DAY + STEP, ...
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from helios.domain.enums import Timeframe
from helios.store.archive import CandleArchive, CandleSeries, Source
from tests.support.candles import START_NS, clean_candles

SERIES = CandleSeries("test", "BTC/USDT:USDT", Timeframe.M1)
ROWS = 240  # the first minutes of a day


def day_of(day: int, seed: int):
    """Return the candles of one day, other ones for another seed."""
    return clean_candles(ROWS, seed=seed * 10_000 + day, start_ns=START_NS + day * Timeframe.D1.ns)


if __name__ == "__main__":
    root, seed, first, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    archive = CandleArchive(root)
    for day in count(first, step):
        archive.write(SERIES, *day_of(day, seed), Source("writer"))
        print(day, flush=True)
