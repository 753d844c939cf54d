"""Does a feature know the future, need more history than it says, or turn missing input into numbers?

Three checks of any function from bars to feature columns:

- look-ahead: rows after t are cut off or replaced (other prices, absurd prices, nothing traded, unknown, broken); every output
  up to t must keep its bits;
- warm-up: the newest value is computed again from shorter and shorter histories; from the declared lookback on it must agree
  with the value from the whole history;
- unknown input: one input of one bar becomes NaN or infinite; every output that depends on it must become non-finite, unless the
  function refuses the bars altogether or names a documented fallback.

What depends on an input is found by changing it to another finite value, so nothing has to be declared for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from helios.domain.decisions import FloatArray
from helios.errors import ConfigError, DataError, InsufficientHistoryError

TimeArray = NDArray[np.int64]
FeatureFunction = Callable[[TimeArray, FloatArray], FloatArray]
"""(open times of shape (n,), values of shape (n, n_columns)) -> features of shape (n, n_features)."""

RTOL, ATOL = 1e-9, 1e-12
UNKNOWN_ROWS: Final = 3000
"""Rows that the check of unknown inputs looks at, the newest ones: two days of minutes and a little more."""
_N_PRICES, _VOLUME = 4, 4
_Change = Callable[[FloatArray, np.random.Generator], FloatArray]


@dataclass(frozen=True, slots=True)
class Subject:
    """A function to check and what is said about it.

    Attributes
    ----------
    name : str
        For the report.
    columns : tuple of str
        Names of the value columns; the first five are open, high, low, close and volume.
    features : tuple of str
        Names of the outputs.
    compute : FeatureFunction
        May raise `DataError` for bars it refuses.
    lookbacks : mapping of str to int
        Declared bars of history per feature; without one, its warm-up is not checked.
    fallbacks : mapping of str to collection of str
        Feature to the inputs whose absence it survives by a documented rule.
    non_finite : tuple of float
        What an unknown input may look like.
    """

    name: str
    columns: tuple[str, ...]
    features: tuple[str, ...]
    compute: FeatureFunction
    lookbacks: Mapping[str, int] = field(default_factory=dict)
    fallbacks: Mapping[str, frozenset[str]] = field(default_factory=dict)
    non_finite: tuple[float, ...] = (math.nan, math.inf, -math.inf)


@dataclass(frozen=True, slots=True)
class LookAheadVerdict:
    """Whether outputs up to a cut stayed as they were. `row`, `cut` and `change` tell the first that did not."""

    feature: str
    n_compared: int
    row: int | None = None
    cut: int | None = None
    change: str | None = None

    @property
    def passed(self) -> bool | None:
        """None if there was no value to compare."""
        return False if self.row is not None else (True if self.n_compared else None)


@dataclass(frozen=True, slots=True)
class WarmUpVerdict:
    """How much history the newest value needs; `needed` is None where the history is too short to tell or has no value."""

    feature: str
    declared: int
    needed: int | None

    @property
    def passed(self) -> bool | None:
        """None if it could not be told."""
        return None if self.needed is None else self.needed <= self.declared


@dataclass(frozen=True, slots=True)
class UnknownInputVerdict:
    """Whether unknown inputs stay visible. `column` and `row` tell the first finite value made from one."""

    feature: str
    n_dependent: int
    column: str | None = None
    row: int | None = None

    @property
    def passed(self) -> bool | None:
        """None if no output was seen to depend on that bar."""
        return False if self.row is not None else (True if self.n_dependent else None)


def check_look_ahead(
    subject: Subject, open_times: TimeArray, values: FloatArray, cuts: Iterable[int] | None = None, seed: int = 0
) -> tuple[LookAheadVerdict, ...]:
    """Replace the future at several cuts and compare the past, bit by bit.

    Parameters
    ----------
    subject : Subject
        What to check.
    open_times : int64 array of shape (n_rows,)
        ns UTC.
    values : float64 array of shape (n_rows, n_columns)
        Bars the subject accepts.
    cuts : iterable of int, optional
        Last rows that stay; default a few near the start, the middle, and within the last bars.
    seed : int, default=0
        Of the replaced rows.

    Returns
    -------
    verdicts : tuple of LookAheadVerdict
        In the order of the subject's features.
    """
    rng = np.random.default_rng(seed)
    whole = _computed(subject, open_times, values)
    found: dict[int, tuple[int, int, str]] = {}
    n_compared = np.zeros(len(subject.features), dtype=np.int64)
    for cut in default_cuts(len(values)) if cuts is None else cuts:
        kept = whole[: cut + 1]
        n_compared += np.isfinite(kept).sum(0)
        for change, (times, altered) in _futures(open_times, values, cut, rng):
            try:
                again = _computed(subject, times, altered)[: cut + 1]
            except DataError:
                if change != "broken":
                    raise
                continue  # a function that refuses the whole history tells nothing about the future
            for column in np.flatnonzero(~_same_bits(again, kept).all(0)):
                row = int(np.argmin(_same_bits(again[:, column], kept[:, column])))
                found.setdefault(int(column), (row, cut, change))
    return tuple(
        LookAheadVerdict(name, int(n_compared[column]), *found.get(column, ())) for column, name in enumerate(subject.features)
    )


def check_warm_up(
    subject: Subject, open_times: TimeArray, values: FloatArray, n_ends: int = 3, rtol: float = RTOL, atol: float = ATOL
) -> tuple[WarmUpVerdict, ...]:
    """Compute the newest values from shorter and shorter histories and say how many bars each feature needs.

    Parameters
    ----------
    subject : Subject
        What to check, with declared lookbacks.
    open_times, values : arrays of shapes (n_rows,) and (n_rows, n_columns)
        History; features that declare more than it holds get no verdict.
    n_ends : int, default=3
        How many rows are tried, an hour apart, from the newest back.
    rtol, atol : float
        |a - b| <= atol + rtol |b| counts as agreement. 1e-12 stands for the rounding of numbers near 0.

    Returns
    -------
    verdicts : tuple of WarmUpVerdict
        For the features with a declared lookback. `needed` is exact to the lengths tried: a ladder of growing steps, and every
        declared lookback itself.
    """
    ends = [end for end in (len(values) - 1 - 61 * i for i in range(n_ends)) if end > 0]
    ladder = _ladder(max(ends, default=-1) + 1, subject.lookbacks.values())
    needed = np.zeros(len(subject.features), dtype=np.int64)
    has_value = np.zeros(len(subject.features), dtype=np.bool_)
    whole = _computed(subject, open_times, values)
    for end in ends:
        wanted = whole[end]
        has_value |= np.isfinite(wanted)
        needed = np.maximum(needed, _needed(subject, open_times[: end + 1], values[: end + 1], wanted, ladder, rtol, atol))
    return tuple(
        WarmUpVerdict(
            name,
            subject.lookbacks[name],
            int(needed[column]) if has_value[column] and subject.lookbacks[name] <= min(ends, default=-1) else None,
        )
        for column, name in enumerate(subject.features)
        if name in subject.lookbacks
    )


def check_unknown_input(
    subject: Subject, open_times: TimeArray, values: FloatArray, row: int | None = None
) -> tuple[UnknownInputVerdict, ...]:
    """Make one input of one bar unknown and see that everything made from it is unknown too.

    Parameters
    ----------
    subject : Subject
        What to check.
    open_times, values : arrays of shapes (n_rows,) and (n_rows, n_columns)
        Bars the subject accepts, all inputs known.
    row : int, optional
        Which bar; default the first after three quarters of the history that has a range and volume.
    """
    at = _lively_row(values, 3 * len(values) // 4) if row is None else row
    whole = _computed(subject, open_times, values)
    n_dependent = np.zeros(len(subject.features), dtype=np.int64)
    found: dict[int, tuple[str, int]] = {}
    for place, name in enumerate(subject.columns):
        other = _with(values, at, place, _other_value(values[at], place))
        survives = np.array([name in subject.fallbacks.get(feature, ()) for feature in subject.features], dtype=np.bool_)
        depends = ~_same_bits(_computed(subject, open_times, other), whole) & ~survives
        n_dependent += depends.sum(0)
        for bad in subject.non_finite:
            try:
                out = _computed(subject, open_times, _with(values, at, place, bad))
            except DataError:
                continue  # refused: nothing was made up
            is_lie = depends & np.isfinite(out)
            for column in np.flatnonzero(is_lie.any(0)):
                found.setdefault(int(column), (name, int(np.argmax(is_lie[:, column]))))
    return tuple(
        UnknownInputVerdict(name, int(n_dependent[column]), *found.get(column, ())) for column, name in enumerate(subject.features)
    )


@dataclass(frozen=True, slots=True)
class FeatureReport:
    """The three verdicts on one feature; a check that was not asked for is None."""

    subject: str
    feature: str
    look_ahead: LookAheadVerdict
    warm_up: WarmUpVerdict | None = None
    unknown_input: UnknownInputVerdict | None = None

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not any(v is not None and v.passed is False for v in (self.look_ahead, self.warm_up, self.unknown_input))


def examine(subject: Subject, open_times: TimeArray, values: FloatArray, is_input_known: bool = True) -> tuple[FeatureReport, ...]:
    """Run the checks that a subject has declarations for: look-ahead always, the others where lookbacks are declared.

    Parameters
    ----------
    subject : Subject
        What to check.
    open_times, values : arrays of shapes (n_rows,) and (n_rows, n_columns)
        Bars the subject accepts.
    is_input_known : bool, default=True
        Whether some bar has all inputs; without one the check of unknown inputs is left out.

    Returns
    -------
    reports : tuple of FeatureReport
        In the order of the subject's features.
    """
    look_ahead = check_look_ahead(subject, open_times, values)
    if not subject.lookbacks:
        return tuple(FeatureReport(subject.name, v.feature, v) for v in look_ahead)
    warm_up = {v.feature: v for v in check_warm_up(subject, open_times, values)}
    unknown: dict[str, UnknownInputVerdict] = {}
    if is_input_known:
        newest = slice(-UNKNOWN_ROWS, None)
        unknown = {v.feature: v for v in check_unknown_input(subject, open_times[newest], values[newest])}
    return tuple(FeatureReport(subject.name, v.feature, v, warm_up.get(v.feature), unknown.get(v.feature)) for v in look_ahead)


def narrowed(subject: Subject, names: Sequence[str]) -> Subject:
    """Return the subject with only these of its features, in this order.

    Raises
    ------
    ConfigError
        If the subject has no feature of such a name.
    """
    unknown = [name for name in names if name not in subject.features]
    if unknown:
        raise ConfigError(f"{subject.name} has no feature {unknown[0]!r}")
    columns = [subject.features.index(name) for name in names]

    def compute(open_times: TimeArray, values: FloatArray) -> FloatArray:
        return subject.compute(open_times, values)[:, columns]

    lookbacks = {name: subject.lookbacks[name] for name in names if name in subject.lookbacks}
    return replace(subject, features=tuple(names), compute=compute, lookbacks=lookbacks)


def default_cuts(n_rows: int) -> tuple[int, ...]:
    """Return the cuts tried by default: within the last bars, in the middle, and where usual windows have just filled."""
    wanted = (20, 50, 60, 110, 210, n_rows // 2, n_rows - 18, n_rows - 8, n_rows - 4, n_rows - 2)
    return tuple(sorted({cut for cut in wanted if 0 <= cut < n_rows - 1}))


def _computed(subject: Subject, open_times: TimeArray, values: FloatArray) -> FloatArray:
    with np.errstate(all="ignore"):  # absurd prices are meant to overflow
        try:
            out = subject.compute(open_times, values)
        except InsufficientHistoryError:
            out = np.full((len(values), len(subject.features)), np.nan)
    if out.shape != (len(values), len(subject.features)):
        raise DataError(
            f"{subject.name} gave an array of shape {out.shape} for {len(values)} rows of {len(subject.features)} features"
        )
    return np.asarray(out, dtype=np.float64)


def _same_bits(a: FloatArray, b: FloatArray) -> NDArray[np.bool_]:
    # NaN equals NaN whatever its payload; 0 and -0 differ.
    same = np.ascontiguousarray(a).view(np.int64) == np.ascontiguousarray(b).view(np.int64)
    return np.asarray(same | (np.isnan(a) & np.isnan(b)), dtype=np.bool_)


def _futures(
    open_times: TimeArray, values: FloatArray, cut: int, rng: np.random.Generator
) -> Iterator[tuple[str, tuple[TimeArray, FloatArray]]]:
    yield "removed", (open_times[: cut + 1], values[: cut + 1])
    for name, change in CHANGES.items():
        altered = values.copy()
        altered[cut + 1 :] = change(values[cut + 1 :], rng)
        yield name, (open_times, altered)


def _other_rows(rows: FloatArray, rng: np.random.Generator) -> FloatArray:
    # Bars in another order, each at a price of its own; one factor for the four prices keeps a bar a bar.
    out = rows[rng.permutation(len(rows))].copy()
    out[:, :_N_PRICES] *= np.exp(rng.normal(0.0, 0.5, (len(rows), 1)))
    out[:, _VOLUME:] *= rng.uniform(0.1, 3.0, (len(rows), out.shape[1] - _VOLUME))
    return out


def _absurd(rows: FloatArray, rng: np.random.Generator) -> FloatArray:
    out = rows.copy()
    out[:, :_N_PRICES] *= np.where(np.arange(len(rows)) % 2 == 0, 1e9, 1e-9)[:, None]
    out[:, _VOLUME:] *= np.where(rng.random((len(rows), out.shape[1] - _VOLUME)) < 0.5, 1e15, 0.0)
    return out


def _dead(rows: FloatArray, _rng: np.random.Generator) -> FloatArray:
    out = rows.copy()
    out[:, :_N_PRICES] = rows[:1, _N_PRICES - 1 : _N_PRICES]
    out[:, _VOLUME:] = 0.0
    return out


def _unknown(rows: FloatArray, _rng: np.random.Generator) -> FloatArray:
    out = rows.copy()
    out[:, _VOLUME + 1 :] = np.nan
    return out


def _broken(rows: FloatArray, rng: np.random.Generator) -> FloatArray:
    return rng.choice(np.array([np.nan, np.inf, -1.0]), rows.shape)


CHANGES: Final[dict[str, _Change]] = {
    "other": _other_rows,
    "absurd": _absurd,
    "dead": _dead,
    "unknown": _unknown,
    "broken": _broken,
}
"""What the future is replaced with, by name; "removed" comes on top. A subject may refuse "broken" bars, no others."""


def _ladder(n_rows: int, declared: Iterable[int]) -> list[int]:
    lengths = {length for length in declared if length <= n_rows}
    length = 1
    while length <= n_rows:
        lengths.add(length)
        length = max(length + 1, length * 5 // 4)
    return sorted(lengths, reverse=True)


def _needed(
    subject: Subject,
    open_times: TimeArray,
    values: FloatArray,
    wanted: FloatArray,
    ladder: Sequence[int],
    rtol: float,
    atol: float,
) -> NDArray[np.int64]:
    # Shortest tried history from which on, going longer, every value agrees.
    needed = np.full(len(subject.features), len(values), dtype=np.int64)
    agrees = np.ones(len(subject.features), dtype=np.bool_)
    for length in (n for n in ladder if n <= len(values)):
        got = _computed(subject, open_times[-length:], values[-length:])[-1]
        both_unknown = np.isnan(got) & np.isnan(wanted)
        agrees &= both_unknown | (np.abs(got - wanted) <= atol + rtol * np.abs(wanted))
        needed[agrees] = length
        if not agrees.any():
            break
    return needed


def _lively_row(values: FloatArray, start: int) -> int:
    has_range = (values[:, 1] > values[:, 2]) & (values[:, _VOLUME] > 0.0) & np.isfinite(values).all(1)
    rows = np.flatnonzero(has_range)
    if len(rows) == 0:
        raise DataError("no bar has a range, volume and all inputs")
    return int(rows[np.argmin(np.abs(rows - start))])


def _other_value(bar: FloatArray, place: int) -> float:
    # Another finite value that leaves the bar valid: prices inside its range, the range itself wider.
    low, high = float(bar[2]), float(bar[1])
    if place in (0, 3):
        middle = low + 0.4 * (high - low)
        return middle if middle != bar[place] else low + 0.6 * (high - low)
    return float({1: bar[1] * 1.01, 2: bar[2] * 0.99}.get(place, bar[place] * 1.3 + 0.01))


def _with(values: FloatArray, row: int, place: int, value: float) -> FloatArray:
    out = values.copy()
    out[row, place] = value
    return out
