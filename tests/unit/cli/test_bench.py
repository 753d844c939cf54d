"""Every benchmark runs and gives figures; how fast is not asserted."""

from __future__ import annotations

import gc
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from helios.cli.app import app, main
from helios.cli.bench import Figure, measure, run_benchmarks
from helios.cli.contest import BENCHMARKS, Contest, Sizes
from helios.cli.contests import book_updates, features_stream, valr_frames
from helios.cli.contests_allocate import allocate
from helios.cli.contests_history import history
from helios.errors import ConfigError
from helios.market.book import BookDesyncError, OrderBook
from helios.venues.valr.codec import decode_frame
from helios.venues.valr.events import Ignored

TINY = Sizes(
    stream_candles=60, batch_candles=200, returns=600, filter_bars=50, assets=(3, 5), diffs=200, frames=50,
    history_symbols=2, history_days=2, windows=(1, 3),
)  # fmt: skip


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_gives_positive_finite_figures(name: str) -> None:
    figures = run_benchmarks([name], repeats=2, sizes=TINY)
    assert figures
    for figure in figures:
        values = [figure.helios, *(v for v in (figure.peer_value, figure.ratio) if v is not None)]
        assert all(math.isfinite(v) and v > 0 for v in values)
        assert (figure.peer_value is None) == (figure.ratio is None)


def test_the_history_of_a_desk_goes_from_files_to_features_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (contest,) = history(TINY)
    contest.ours()
    assert list(tmp_path.iterdir())
    del contest
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_sides_take_turns_and_the_first_run_of_each_does_not_count() -> None:
    order: list[str] = []
    contest = Contest("x", "ms", 1, lambda: order.append("h"), "p", lambda: order.append("p"))
    assert measure("b", contest, 3).repeats == 3
    assert "".join(order) == "hp" + "hp" + "ph" + "hp"


def test_units_and_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helios.cli.bench._seconds", lambda work: work())

    def figure(unit: str) -> Figure:
        return measure("b", Contest("x", unit, 4, lambda: 2.0, "p", lambda: 3.0), 1)

    assert figure("per s").helios == pytest.approx(2.0)
    assert figure("us").helios == pytest.approx(0.5e6)
    assert figure("ms").peer_value == pytest.approx(750.0)
    assert figure("s").ratio == pytest.approx(1.5)


def test_the_peer_of_the_stream_gets_every_close_nine_times(monkeypatch: pytest.MonkeyPatch) -> None:
    closes: list[float] = []

    class Indicator:
        def __init__(self, *periods: int) -> None:
            assert periods

        def add(self, close: float) -> None:
            closes.append(close)

    module = ModuleType("talipp.indicators")
    for name in ("RSI", "MACD", "SMA", "EMA", "BB", "StdDev"):
        setattr(module, name, Indicator)
    monkeypatch.setitem(sys.modules, "talipp", ModuleType("talipp"))
    monkeypatch.setitem(sys.modules, "talipp.indicators", module)
    (contest,) = features_stream(TINY)
    assert contest.theirs is not None
    contest.theirs()
    assert len(closes) == 9 * TINY.stream_candles
    assert len(set(closes)) == TINY.stream_candles


def test_a_peer_that_is_absent_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("talipp", "talipp.indicators"):
        monkeypatch.setitem(sys.modules, module, None)
    (figure,) = run_benchmarks(["features_stream"], 1, TINY)
    assert (figure.peer, figure.peer_value, figure.ratio) == ("talipp", None, None)


def test_both_sides_of_allocate_solve_the_same_problem() -> None:
    contests = [c for c in allocate(TINY) if c.theirs is not None]
    if not contests:
        pytest.skip("neither PyPortfolioOpt nor skfolio is installed")
    for contest in contests:
        assert contest.theirs is not None
        np.testing.assert_allclose(np.asarray(contest.ours()), np.asarray(contest.theirs()), atol=2e-3)


def test_the_book_of_the_benchmark_is_verified_by_its_checksums() -> None:
    updates = book_updates(300)
    kept = OrderBook("BTC/ZAR")
    for update in updates:
        kept.apply(update)
    assert kept.is_synced
    assert any(q == "0" for u in updates for _, q in u.bids + u.asks)
    stale = OrderBook("BTC/ZAR")
    stale.apply(updates[0])
    with pytest.raises(BookDesyncError):
        stale.apply(updates[2])


def test_every_frame_of_the_benchmark_is_understood() -> None:
    events = [e for frame in valr_frames(50) for e in decode_frame(frame, {"BTCZAR": "BTC/ZAR"}, 1)]
    assert len({type(e) for e in events}) == 3
    assert not [e for e in events if isinstance(e, Ignored)]


def test_json_has_one_object_on_stdout_and_progress_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["helios", "bench", "book", "--json", "--repeats", "1"])
    monkeypatch.setattr("helios.cli.bench.Sizes", lambda: TINY)
    assert main() == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["figures"][0]["benchmark"] == "book"
    assert "book: preparing" in err


def test_the_table_says_who_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    from helios.cli.bench import _print_table

    _print_table([Figure("b", "x", "us", 12.0, "talipp", None, None, 1, "a note")])
    assert "talipp: peer not installed" in capsys.readouterr().out


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="features_stream"):
        app(["bench", "nothing"], standalone_mode=False)
