from __future__ import annotations

import numpy as np
import pytest

from helios.domain.enums import Timeframe
from helios.errors import InsufficientHistoryError
from helios.features.multi import FEATURE_NAMES_90, features_90, newest_closed
from helios.features.stream import FeatureState
from helios.market.candles import CandleBuilder
from tests.unit.features.bars import START, as_bars, random_bars

MINUTE = Timeframe.M1.ns


def test_ninety_features_equal_the_stream_at_every_minute() -> None:
    rows, times = random_bars(900, seed=1), START + np.arange(3, 903) * MINUTE
    batch, close_times = features_90(rows, times)
    state, builder = FeatureState("X"), CandleBuilder("X")
    for i, minute in enumerate(as_bars(rows, start=int(times[0]))):
        for bar in builder.on_minute(minute):
            state.on_bar(bar)
        assert close_times[i] == minute.close_time
        np.testing.assert_allclose(batch[i].reshape(3, 30), state.latest(), rtol=1e-9, atol=1e-14)


def test_a_bar_is_known_from_its_close_on() -> None:
    opened = np.array([0, 300, 600]) * 10**9
    moments = np.array([0, 299, 300, 599, 600, 5000]) * 10**9
    assert newest_closed(opened, Timeframe.M5, moments).tolist() == [-1, -1, 0, 0, 1, 2]


def test_too_few_minutes_are_an_error() -> None:
    with pytest.raises(InsufficientHistoryError, match="40 of 50 bars of 5m"):
        features_90(random_bars(200), START + np.arange(200) * MINUTE)


def test_names_say_feature_and_timeframe() -> None:
    assert len(set(FEATURE_NAMES_90)) == 90
    assert (FEATURE_NAMES_90[0], FEATURE_NAMES_90[30], FEATURE_NAMES_90[89]) == (
        "open_rel_1m",
        "open_rel_5m",
        "microprice_bps_15m",
    )
