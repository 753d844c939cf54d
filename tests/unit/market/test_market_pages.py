"""docs/market-data.md and docs/features.md say what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from actors.feed import AHEAD_BELIEVED
from actors.outbox import ROWS_KEPT
from actors.recorder import ALERT_S
from actors.repair import MAX_SHORT_ANSWERS
from helios.clock import AHEAD_ALLOWED_S, AHEAD_ALLOWED_WALL_S
from helios.config import load_config
from helios.features.definitions import FEATURE_NAMES
from helios.features.page import FORMULAS, page
from helios.market.candles import REMEMBERED_TRADE_IDS
from helios.market.quality import _ISSUES, _LEVELS, Flag, QualityRules
from helios.market.settling import DOUBTS_ALLOWED, SETTLING_MINUTES
from helios.pipeline.symbol import LATE_PRICE_NS
from helios.store.recorder import Retention

DOCS = Path(__file__).resolve().parents[3] / "docs"
TEXT = (DOCS / "market-data.md").read_text()


def test_the_page_of_features_is_what_the_code_says() -> None:
    assert (DOCS / "features.md").read_text() == page()
    assert tuple(FORMULAS) == FEATURE_NAMES


def test_the_table_of_findings_is_the_checks() -> None:
    rows = {name: (level, score) for name, level, score in re.findall(r"^\| `(\w+)` \| [^|]+ \| (\w+) \| (yes|no) \|$", TEXT, re.M)}
    wanted = {
        str(flag.name).lower(): (_LEVELS[flag].name, "yes" if flag & _ISSUES else "no") for flag in Flag if flag is not Flag.AFTER_GAP
    }
    assert rows == wanted | {"gaps": ("WARN", "yes")}
    rules = QualityRules()
    assert f"over {rules.outlier_log_return * 100:.0f} % and over {rules.outlier_scales:.0f} robust" in TEXT
    assert f"{rules.stale_bars} bars in a row" in TEXT
    assert f"over {rules.spike_factor:.0f} times" in TEXT
    assert f"below {rules.warn_score:.2f} the verdict is at least WARN, below {rules.bad_score:.2f} BAD" in TEXT


def test_the_numbers_of_the_page_are_the_programs() -> None:
    store, keep = load_config(env={}).store, Retention()
    for said in (
        f"newest {REMEMBERED_TRADE_IDS:,} trade ids",
        f"For {SETTLING_MINUTES} minutes it joins",
        f"a {'second' if LATE_PRICE_NS == 10**9 else '?'} old",
        f"after {'three' if DOUBTS_ALLOWED == 3 else '?'} doubts",
        f"over {AHEAD_ALLOWED_S:.0f} s ahead",
        f"{AHEAD_ALLOWED_WALL_S:.0f} wall seconds",
        f"{'a hundred' if AHEAD_BELIEVED == 100 else '?'} such events in a row",
        f"After {MAX_SHORT_ANSWERS} looks",
        f"{store.candle_buffer:,} candles and {store.trade_buffer:,} prints",
        f"After {'five' if ALERT_S == 300 else '?'} minutes",
        f"({ROWS_KEPT:,} rows each)",
        f"every timeframe | {keep.candles_days} days",
        f"public prints | {keep.trades_days} days",
        f"at decision closes | {keep.books_days} days",
        f"features at decision closes | {keep.features_days} days",
        f"to the desk | {keep.events_days} days",
    ):
        assert said in TEXT, said
