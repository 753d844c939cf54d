from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from helios.domain.enums import FEATURE_TIMEFRAMES
from helios.errors import InsufficientHistoryError
from helios.features.batch import features_with_reference, resample
from helios.features.definitions import CORRELATION_COLUMN
from helios.learn.dataset import DECISION, Dataset, build_windows, concatenate, fit_scaler
from helios.learn.labels import BarrierSpec
from helios.learn.splits import Splits, split_by_time, walk_forward
from helios.venues.sandbox.history import synthetic_history

SYMBOLS = ("BTC/ZAR", "ETH/ZAR")
SPEC = BarrierSpec(horizon_bars=24, volatility_half_life_bars=24)
HORIZON_NS = 24 * 300 * 10**9
HOUR_NS = 3_600 * 10**9
DAYS = 6


@pytest.fixture(scope="module")
def history() -> dict:
    return synthetic_history(SYMBOLS, DAYS * 1440, seed=3)


@pytest.fixture(scope="module")
def dataset(history: dict) -> Dataset:
    return build_windows(history, "BTC/ZAR", stride=3, spec=SPEC)


@pytest.fixture(scope="module")
def splits(dataset: Dataset) -> Splits:
    return split_by_time(dataset, HORIZON_NS, HOUR_NS)


def test_window_holds_the_last_sixty_bars_closed_by_the_decision(history: dict, dataset: Dataset) -> None:
    row = len(dataset) - 5
    symbol, t = dataset.series[dataset.symbol_index[row]].symbol, dataset.times[row]
    window = dataset.gather(np.array([row]))[0]
    for j, timeframe in enumerate(FEATURE_TIMEFRAMES):
        bars, opens = resample(history[symbol][1], history[symbol][0], timeframe)
        reference, _ = resample(history["BTC/ZAR"][1], history["BTC/ZAR"][0], timeframe)
        closed = opens + timeframe.ns <= t
        expected = features_with_reference(bars, reference)[closed][-60:]
        np.testing.assert_allclose(window[j], expected.astype(np.float32), rtol=1e-6)


def test_newest_bars_close_at_or_just_before_the_decision(dataset: Dataset) -> None:
    for j, timeframe in enumerate(FEATURE_TIMEFRAMES):
        newest = np.array([
            dataset.series[s].close_times[j][end - 1] for s, end in zip(dataset.symbol_index, dataset.ends[:, j], strict=True)
        ])  # fmt: skip
        assert ((newest <= dataset.times) & (newest > dataset.times - timeframe.ns)).all()


def test_changing_the_future_leaves_windows_labels_and_scaler_of_the_past_alone(history: dict, dataset: Dataset) -> None:
    cut = int(dataset.times[len(dataset) // 4])
    changed = {}
    for symbol, (times, bars) in history.items():
        later = bars.copy()
        later[times >= cut] *= 1.7
        changed[symbol] = (times, later)
    other = build_windows(changed, "BTC/ZAR", stride=3, spec=SPEC)
    np.testing.assert_array_equal(other.times, dataset.times)
    past = np.flatnonzero(dataset.times <= cut)
    np.testing.assert_array_equal(other.gather(past), dataset.gather(past))
    settled = np.flatnonzero(dataset.times + HORIZON_NS <= cut)
    np.testing.assert_array_equal(other.labels[settled], dataset.labels[settled])
    np.testing.assert_array_equal(fit_scaler(other, past).mean, fit_scaler(dataset, past).mean)
    future = np.flatnonzero(dataset.times > cut + HOUR_NS)
    assert (other.gather(future) != dataset.gather(future)).any()


def test_scaler_sees_nothing_after_the_last_training_decision(dataset: Dataset, splits: Splits) -> None:
    scaler = fit_scaler(dataset, splits.train)
    last = dataset.times[splits.train].max()
    rows = np.concatenate([s.features[0][s.close_times[0] <= last] for s in dataset.series])
    np.testing.assert_allclose(scaler.mean[0, :10], np.nanmean(rows[:, :10].astype(float), axis=0), rtol=1e-9)


def test_correlation_is_one_for_the_reference_and_unknown_without_one(history: dict, dataset: Dataset) -> None:
    btc = dataset.gather(np.flatnonzero(dataset.symbol_index == 0)[:1])
    np.testing.assert_array_equal(btc[..., CORRELATION_COLUMN], 1.0)
    alone = build_windows({"ETH/ZAR": history["ETH/ZAR"]}, None, stride=30, spec=SPEC)
    assert np.isnan(alone.gather(np.array([0]))[..., CORRELATION_COLUMN]).all()


def test_last_rows_are_the_newest_step_of_the_windows(dataset: Dataset) -> None:
    rows = np.array([0, 7, len(dataset) - 1])
    np.testing.assert_array_equal(dataset.last_rows(rows), dataset.gather(rows)[:, :, -1])


def test_every_decision_is_labelled_and_warm(dataset: Dataset) -> None:
    assert (dataset.labels >= 0).all()
    assert np.isfinite(dataset.exit_returns).all()
    assert np.isfinite(dataset.gather(np.array([0]))[..., :9]).all()


def test_digest_changes_with_one_number(history: dict, dataset: Dataset) -> None:
    assert build_windows(history, "BTC/ZAR", stride=3, spec=SPEC).digest() == dataset.digest()
    bars = history["ETH/ZAR"][1].copy()
    bars[-2000, 3] *= 1.0001
    other = build_windows({**history, "ETH/ZAR": (history["ETH/ZAR"][0], bars)}, "BTC/ZAR", stride=3, spec=SPEC)
    assert other.digest() != dataset.digest()


def test_concatenated_markets_keep_their_own_windows(dataset: Dataset) -> None:
    both = concatenate([dataset, dataset])
    n = len(dataset)
    np.testing.assert_array_equal(both.gather(np.array([n + 3])), dataset.gather(np.array([3])))
    assert len(both.series) == 4


def test_no_label_of_a_part_reaches_into_the_next(dataset: Dataset, splits: Splits) -> None:
    parts = [rows for _, rows in splits.items()]
    for earlier, later in pairwise(parts):
        assert dataset.times[earlier].max() + HORIZON_NS + HOUR_NS <= dataset.times[later].min()
    assert len(np.unique(np.concatenate(parts))) == sum(len(part) for part in parts)


def test_the_newest_decisions_are_in_the_test_part(dataset: Dataset, splits: Splits) -> None:
    assert dataset.times[splits.test].max() == dataset.times.max()


def test_too_short_history_cannot_be_split(history: dict) -> None:
    short = {symbol: (times[:1400], bars[:1400]) for symbol, (times, bars) in history.items()}
    with pytest.raises(InsufficientHistoryError):
        build_windows(short, "BTC/ZAR", stride=3)  # a day of bars cannot hold a label of a day
    small = build_windows(history, "BTC/ZAR", stride=3, spec=SPEC)
    with pytest.raises(InsufficientHistoryError):
        split_by_time(small, DAYS * 24 * HOUR_NS, 0)


def test_walk_forward_folds_move_on_and_never_train_on_their_future(dataset: Dataset) -> None:
    folds = list(walk_forward(dataset, HORIZON_NS, 2.0, 1.0, 0.5, step_days=0.5, max_folds=3))
    assert len(folds) == 3
    for fold in folds:
        assert dataset.times[fold.train].max() + HORIZON_NS < dataset.times[fold.validation].min()
        assert dataset.times[fold.calibration].max() + HORIZON_NS < dataset.times[fold.test].min()
    ends = [dataset.times[fold.test].max() for fold in folds]
    assert ends == sorted(set(ends))


def test_walk_forward_of_too_short_a_history_is_an_error(dataset: Dataset) -> None:
    with pytest.raises(InsufficientHistoryError):
        list(walk_forward(dataset, HORIZON_NS))


def test_decisions_are_stride_apart(dataset: Dataset) -> None:
    own = dataset.times[dataset.symbol_index == 0]
    assert set(np.diff(own).tolist()) == {3 * FEATURE_TIMEFRAMES[DECISION].ns}
