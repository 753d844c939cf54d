"""What is wrong with a history of candles: chained checks, a flag per row, a score and a verdict. Nothing is altered.

Every flag of a row depends on that row and those before it, so that a report on a longer history says the same of its beginning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

import numpy as np
from numpy.typing import NDArray

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import DataError

TimeArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _QUOTE, _COUNT, _BUY = range(8)
_ROUNDING = 1e-9  # by which a sum of fills may exceed the total it is part of


class Flag(IntFlag):
    """Bits of a row's flags."""

    NOT_FINITE = 1
    BAD_BAR = 2
    DUPLICATE = 4
    OUT_OF_ORDER = 8
    MISALIGNED = 16
    FUTURE = 32
    OUTLIER = 64
    AFTER_GAP = 128
    NO_TRADES = 256
    OUTAGE = 512
    STALE = 1024
    VOLUME_SPIKE = 2048


class Verdict(IntEnum):
    """OK: use it. WARN: usable, look at the findings. BAD: readers of Helios would refuse it, or a fifth of it is missing."""

    OK = 0
    WARN = 1
    BAD = 2


@dataclass(frozen=True, slots=True)
class QualityRules:
    """Thresholds of the checks.

    Attributes
    ----------
    outlier_log_return : float, default=0.10
        Moves up to this are never outliers.
    outlier_scales, outlier_bars : float, int
        Nor are moves up to so many robust standard deviations, 1.4826 x the median of the last so many absolute returns.
    outage_probability, outage_bars, busy_bars : float, int, int
        A run of bars without trades is an outage once it is less likely than this, given how often the `outage_bars` before it
        (at least 100) had none, each bar independent; or at once, if each of the `busy_bars` before it had trades.
    stale_bars : int, default=30
        Bars in a row that traded without moving the close by anything.
    spike_factor, spike_bars : float, int
        A volume above so many times the mean of the so many bars before is a spike. At least 60 must come before it.
    warn_score, bad_score : float
        Scores below which the verdict is WARN or BAD.
    """

    outlier_log_return: float = 0.10
    outlier_scales: float = 15.0
    outlier_bars: int = 240
    outage_probability: float = 1e-6
    outage_bars: int = 10_000
    busy_bars: int = 2_000
    stale_bars: int = 30
    spike_factor: float = 50.0
    spike_bars: int = 240
    warn_score: float = 0.95
    bad_score: float = 0.80


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    name : str
    count : int
        Rows, or for gaps buckets.
    longest : int
        Bars of the longest run.
    ranges : tuple of (int, int)
        From the open time of a run's first bar to the close time of its last, ns UTC, in order of time.
    level : Verdict
        What the check alone would say.
    is_issue : bool
        Whether its rows count against the score.
    """

    name: str
    count: int
    longest: int
    ranges: tuple[tuple[int, int], ...]
    level: Verdict
    is_issue: bool


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What the checks found.

    Attributes
    ----------
    rows, expected_rows : int
        Rows given; buckets from `start_ns` to `end_ns`.
    start_ns, end_ns : int
        The range that was looked at, ns UTC; the end is excluded.
    findings : tuple of Finding
        One per check, found or not.
    flags : uint16 array of shape (rows,)
        Sum of the row's `Flag` bits, read-only.
    score : float
        1 - issues / rows, where rows are the larger of rows and expected rows, and issues are the missing buckets and the
        rows with a flag that counts.
    """

    rows: int
    expected_rows: int
    start_ns: int
    end_ns: int
    findings: tuple[Finding, ...]
    flags: NDArray[np.uint16] = field(repr=False, compare=False)
    score: float
    verdict: Verdict

    def finding(self, name: str) -> Finding:
        """Return the finding of a check by its name."""
        return next(each for each in self.findings if each.name == name)

    @property
    def gaps(self) -> tuple[tuple[int, int], ...]:
        """Ranges without candles."""
        return self.finding("gaps").ranges

    def rows_with(self, flags: Flag) -> NDArray[np.int64]:
        """Return the numbers of the rows that have any of the flags."""
        return np.flatnonzero(self.flags & int(flags)).astype(np.int64)


def check_candles(
    open_times: TimeArray,
    bars: FloatArray,
    timeframe: Timeframe,
    *,
    start_ns: int | None = None,
    end_ns: int | None = None,
    now_ns: int | None = None,
    rules: QualityRules | None = None,
) -> QualityReport:
    """Check candles as they came, in the order they came.

    Parameters
    ----------
    open_times : int64 array of shape (n,)
        ns UTC.
    bars : float64 array of shape (n, 13)
        Columns in the order of BAR_VALUES; only the first five must be known.
    timeframe : Timeframe
        Buckets are aligned to the epoch in UTC.
    start_ns, end_ns : int, optional
        The range that should be there, end excluded; by default from the first to the last row. The rows expected follow
        from it. Gaps outside of it do not count.
    now_ns : int, optional
        Bars that close after it are in the future; without it none is.
    rules : QualityRules, optional

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    open_times, bars = np.asarray(open_times, dtype=np.int64), np.asarray(bars, dtype=np.float64)
    if bars.shape != (len(open_times), len(BAR_VALUES)):
        raise DataError(f"{len(open_times)} open times and values of shape {bars.shape}")
    rules = rules or QualityRules()
    facts = _Facts(open_times, bars, timeframe, start_ns, end_ns)
    rows = {
        Flag.NOT_FINITE: ~np.isfinite(bars[:, : _VOLUME + 1]).all(axis=1) | np.isinf(bars).any(axis=1),
        Flag.BAD_BAR: _is_bad(bars),
        Flag.DUPLICATE: facts.is_duplicate,
        Flag.OUT_OF_ORDER: open_times < np.maximum.accumulate(open_times) if len(open_times) else facts.is_duplicate,
        Flag.MISALIGNED: open_times % timeframe.ns != 0,
        Flag.FUTURE: open_times > (np.iinfo(np.int64).max if now_ns is None else now_ns - timeframe.ns),
        Flag.OUTLIER: facts.spread(_outliers(facts, rules)),
        Flag.AFTER_GAP: facts.spread(facts.steps > timeframe.ns),
        Flag.NO_TRADES: facts.spread(facts.volume == 0.0),
        Flag.OUTAGE: facts.spread(_outages(facts.volume == 0.0, rules)),
        Flag.STALE: facts.spread(_stale(facts, rules)),
        Flag.VOLUME_SPIKE: facts.spread(_spikes(facts.volume, rules)),
    }
    flags = np.zeros(len(open_times), dtype=np.uint16)
    for flag, is_set in rows.items():
        flags[is_set] |= int(flag)
    flags.setflags(write=False)
    # Its row is flagged once the run is long enough; the finding shows the run from its beginning.
    runs = rows | {Flag.OUTAGE: facts.spread(_whole_runs(facts.volume == 0.0, rows[Flag.OUTAGE][facts.rows]))}
    findings = (_gaps(facts), *(_finding(facts, flag, is_set) for flag, is_set in runs.items() if flag is not Flag.AFTER_GAP))
    return _report(facts, findings, flags, rules)


class _Facts:
    # The rows in order of time, each time once (the first that came), and the range that should be there.

    def __init__(
        self, open_times: TimeArray, bars: FloatArray, timeframe: Timeframe, start_ns: int | None, end_ns: int | None
    ) -> None:
        order = np.argsort(open_times, kind="stable")
        is_repeated = np.diff(open_times[order], prepend=open_times[order[:1]] - 1) == 0
        self.is_duplicate = np.zeros(len(open_times), dtype=np.bool_)
        self.is_duplicate[order[is_repeated]] = True
        self.rows = order[~is_repeated]
        self.open_times, self.bars, self.timeframe = open_times, bars, timeframe
        self.times = open_times[self.rows]
        self.close, self.volume = bars[self.rows, _CLOSE], bars[self.rows, _VOLUME]
        self.chain = bars[self.rows]
        # The first has no step; it is no gap.
        self.steps = np.diff(self.times, prepend=self.times[:1] - timeframe.ns)
        first = int(self.times[0]) if len(self.times) else 0
        last = int(self.times[-1]) + timeframe.ns if len(self.times) else 0
        step = timeframe.ns
        self.start_ns = -(-(first if start_ns is None else start_ns) // step) * step
        self.end_ns = max(self.start_ns, -(-(last if end_ns is None else end_ns) // step) * step)

    @property
    def n_expected(self) -> int:
        return (self.end_ns - self.start_ns) // self.timeframe.ns

    def spread(self, is_set: BoolArray) -> BoolArray:
        # From the chain back to the rows as they came.
        out = np.zeros(len(self.open_times), dtype=np.bool_)
        out[self.rows[is_set]] = True
        return out


def _is_bad(bars: FloatArray) -> BoolArray:
    # Known values that contradict each other. An unknown or infinite price is another finding.
    open_, high, low, close, volume = bars[:, : _VOLUME + 1].T
    contradicts = (low > np.minimum(open_, close)) | (high < np.maximum(open_, close)) | (low > high)
    not_positive = (bars[:, : _CLOSE + 1] <= 0.0).any(axis=1)
    negative = (bars[:, [_VOLUME, _QUOTE, _COUNT, _BUY]] < 0.0).any(axis=1)
    return np.asarray(contradicts | not_positive | negative | (bars[:, _BUY] > volume * (1.0 + _ROUNDING)), dtype=np.bool_)


def _outliers(facts: _Facts, rules: QualityRules) -> BoolArray:
    # A bar is out if its close is far both from the close before and from the last close that was not out: a single wrong print
    # is one outlier, and so is the first bar of a new level. A wick that far beyond the bar's own body is one too.
    # Across a gap nothing is compared.
    usable = np.isfinite(facts.chain[:, : _CLOSE + 1]).all(axis=1) & (facts.chain[:, : _CLOSE + 1] > 0.0).all(axis=1)
    out = np.zeros(len(usable), dtype=np.bool_)
    kept = np.flatnonzero(usable)
    if len(kept) < 2:
        return out
    logs = np.log(facts.chain[kept][:, : _CLOSE + 1])
    steps = np.diff(logs[:, _CLOSE], prepend=logs[0, _CLOSE])
    steps[np.diff(facts.times[kept], prepend=facts.times[kept[0]]) > facts.timeframe.ns] = 0.0
    body_top, body_bottom = np.maximum(logs[:, _OPEN], logs[:, _CLOSE]), np.minimum(logs[:, _OPEN], logs[:, _CLOSE])
    wicks = np.maximum(logs[:, _HIGH] - body_top, body_bottom - logs[:, _LOW])
    good = 0
    for i in np.flatnonzero(np.maximum(np.abs(steps), wicks) > rules.outlier_log_return).tolist():
        good = i - 1 if not out[kept[i - 1]] else good
        before = np.abs(steps[max(1, i - rules.outlier_bars) : i])
        scale = 1.4826 * float(np.median(before)) if len(before) else 0.0
        limit = max(rules.outlier_log_return, rules.outlier_scales * scale)
        jump = min(abs(steps[i]), abs(logs[i, _CLOSE] - logs[good, _CLOSE]))
        out[kept[i]] = max(jump, wicks[i]) > limit
    return out


def _run_lengths(is_set: BoolArray) -> NDArray[np.int64]:
    # How many rows in a row are set up to and including each; 0 where it is not set.
    index = np.arange(1, len(is_set) + 1, dtype=np.int64)
    return index - np.maximum.accumulate(np.where(is_set, 0, index)) if len(is_set) else index


def _outages(is_empty: BoolArray, rules: QualityRules) -> BoolArray:
    lengths = _run_lengths(is_empty)
    begins = np.arange(len(is_empty)) - lengths + 1  # of the run, where there is one
    since = np.maximum(0, begins - rules.outage_bars)
    empty_before = np.concatenate(([0], np.cumsum(is_empty)))
    n_before = begins - since
    share = (empty_before[begins] - empty_before[since] + 1.0) / (n_before + 2.0)  # Laplace: never 0
    is_unlikely = (n_before >= 100) & (lengths * np.log(share) < np.log(rules.outage_probability))
    was_busy = begins >= rules.busy_bars
    was_busy &= empty_before[begins] == empty_before[np.maximum(0, begins - rules.busy_bars)]
    return np.asarray(is_empty & (is_unlikely | was_busy), dtype=np.bool_)


def _whole_runs(is_set: BoolArray, is_marked: BoolArray) -> BoolArray:
    # The runs of `is_set` that have a marked row, whole.
    run = np.cumsum(~is_set)
    return is_set & np.isin(run, run[is_set & is_marked])


def _stale(facts: _Facts, rules: QualityRules) -> BoolArray:
    # Among the bars that traded: a price that does not move because nobody trades is no fault of the data.
    traded = np.flatnonzero(facts.volume > 0.0)
    close = facts.close[traded]
    is_unchanged = np.concatenate((np.zeros(min(1, len(close)), dtype=np.bool_), close[1:] == close[:-1]))
    out = np.zeros(len(facts.volume), dtype=np.bool_)
    out[traded[_run_lengths(is_unchanged) >= rules.stale_bars]] = True
    return out


def _spikes(volume: FloatArray, rules: QualityRules) -> BoolArray:
    known = np.where(np.isfinite(volume), volume, 0.0)
    total = np.concatenate(([0.0], np.cumsum(known)))
    index = np.arange(len(volume))
    since = np.maximum(0, index - rules.spike_bars)
    mean = (total[index] - total[since]) / np.maximum(index - since, 1)
    return np.asarray((index >= 60) & (mean > 0.0) & (known > rules.spike_factor * mean), dtype=np.bool_)


_LEVELS = {
    Flag.NOT_FINITE: Verdict.BAD, Flag.BAD_BAR: Verdict.BAD, Flag.DUPLICATE: Verdict.BAD, Flag.OUT_OF_ORDER: Verdict.BAD,
    Flag.MISALIGNED: Verdict.BAD, Flag.FUTURE: Verdict.BAD, Flag.OUTLIER: Verdict.WARN, Flag.OUTAGE: Verdict.WARN,
    Flag.STALE: Verdict.WARN, Flag.NO_TRADES: Verdict.OK, Flag.VOLUME_SPIKE: Verdict.OK,
}  # fmt: skip
_ISSUES = (
    Flag.NOT_FINITE | Flag.BAD_BAR | Flag.DUPLICATE | Flag.OUT_OF_ORDER | Flag.MISALIGNED | Flag.FUTURE | Flag.OUTLIER
)  # fmt: skip


def _gaps(facts: _Facts) -> Finding:
    step = facts.timeframe.ns
    there = facts.times[(facts.times % step == 0) & (facts.times >= facts.start_ns) & (facts.times < facts.end_ns)]
    edges = np.concatenate(([facts.start_ns - step], there, [facts.end_ns])).astype(np.int64)
    missing = np.diff(edges) // step - 1
    where = np.flatnonzero(missing)
    ranges = tuple(zip((edges[where] + step).tolist(), edges[where + 1].tolist(), strict=True))
    level = Verdict.WARN if ranges else Verdict.OK
    return Finding("gaps", int(missing.sum()), int(missing.max(initial=0)), ranges, level, is_issue=True)


def _finding(facts: _Facts, flag: Flag, is_set: BoolArray) -> Finding:
    name = str(flag.name).lower()
    if not is_set.any():
        return Finding(name, 0, 0, (), Verdict.OK, bool(flag & _ISSUES))
    times = np.unique(facts.open_times[is_set])
    is_first = np.diff(times, prepend=times[0] - 2 * facts.timeframe.ns) != facts.timeframe.ns
    first = np.flatnonzero(is_first)
    last = np.concatenate((first[1:], [len(times)])) - 1
    ranges = tuple(zip(times[first].tolist(), (times[last] + facts.timeframe.ns).tolist(), strict=True))
    return Finding(name, int(is_set.sum()), int((last - first).max()) + 1, ranges, _LEVELS[flag], bool(flag & _ISSUES))


def _report(facts: _Facts, findings: tuple[Finding, ...], flags: NDArray[np.uint16], rules: QualityRules) -> QualityReport:
    n_rows, n_expected = len(flags), facts.n_expected
    issues = findings[0].count + int(np.count_nonzero(flags & int(_ISSUES)))
    score = max(0.0, 1.0 - issues / max(n_rows, n_expected, 1)) if n_rows else 0.0
    verdict = max(finding.level for finding in findings)
    if score < rules.warn_score:
        verdict = max(verdict, Verdict.WARN)
    if score < rules.bad_score:
        verdict = Verdict.BAD
    return QualityReport(n_rows, n_expected, facts.start_ns, facts.end_ns, findings, flags, score, verdict)
