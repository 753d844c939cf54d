from __future__ import annotations

import pytest

from helios.domain.decisions import N_FEATURES
from helios.features import definitions
from helios.features.definitions import (
    CANDLE_COLUMNS,
    CORRELATION_COLUMN,
    FEATURE_GROUPS,
    FEATURE_NAMES,
    FLOW_BOOK_COLUMNS,
    WINDOW_WARMUP_BARS,
    schema_hash,
)


def test_thirty_names_in_ten_five_ten_five() -> None:
    assert len(set(FEATURE_NAMES)) == N_FEATURES
    assert [len(columns) for columns in FEATURE_GROUPS.values()] == [10, 5, 10, 5]
    assert sorted(column for columns in FEATURE_GROUPS.values() for column in columns) == list(range(N_FEATURES))


def test_columns_that_need_trades_or_a_book() -> None:
    assert [FEATURE_NAMES[column] for column in FLOW_BOOK_COLUMNS] == [
        "spread_bps",
        "flow_imbalance",
        "trade_count_ratio_20",
        "book_imbalance_10",
        "depth_10_log",
        "trade_momentum_10",
        "microprice_bps",
    ]
    assert FEATURE_NAMES[CORRELATION_COLUMN] == "btc_correlation_60"
    assert sorted((*CANDLE_COLUMNS, *FLOW_BOOK_COLUMNS, CORRELATION_COLUMN)) == list(range(N_FEATURES))


def test_a_window_needs_two_hours_of_minutes() -> None:
    assert WINDOW_WARMUP_BARS == 120


def test_schema_hash_changes_with_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    before = schema_hash()
    monkeypatch.setattr(definitions, "FEATURE_NAMES", FEATURE_NAMES[::-1])
    assert schema_hash() != before
    assert len(before) == 16
