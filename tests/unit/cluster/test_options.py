from __future__ import annotations

import json
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.options import check_port, new_run_id, plan_replay
from cluster.summary import COUNTED, summarise
from helios.cli.rundir import RunInfo
from helios.domain.market import Instrument, quote_currency
from helios.domain.universe import choose_symbols, reference_symbol
from helios.errors import ConfigError

START_MS = 1_737_982_920_000
OFFERED = {s: Instrument(s, s.split("/")[0], "ZAR", "v", s.replace("/", "")) for s in ("BTC/ZAR", "ETH/ZAR", "SOL/ZAR")} | {
    "BTC/USDT:USDT": Instrument("BTC/USDT:USDT", "BTC", "USDT", "v", "BTCUSDTPERP")
}


@pytest.mark.parametrize("name", ["BTC/ZAR", "BTC-ZAR", "BTCZAR", "btc/zar", "btczar"])
def test_every_spelling_of_a_symbol_is_understood(name: str) -> None:
    assert choose_symbols([name], OFFERED, ()) == ("BTC/ZAR",)


def test_venue_names_are_understood_and_repetitions_dropped() -> None:
    assert choose_symbols(["BTCUSDTPERP", "eth-zar", "ETHZAR"], OFFERED, ()) == ("BTC/USDT:USDT", "ETH/ZAR")


def test_without_a_wish_the_defaults_that_are_offered_are_taken_else_the_first() -> None:
    assert choose_symbols([], OFFERED, ("SOL/ZAR", "DOGE/ZAR")) == ("SOL/ZAR",)
    assert choose_symbols([], OFFERED, ()) == ("BTC/ZAR", "ETH/ZAR", "SOL/ZAR")  # one quote currency


def test_symbols_of_several_quote_currencies_are_refused_for_one_account() -> None:
    assert quote_currency({s: i for s, i in OFFERED.items() if i.quote == "ZAR"}) == "ZAR"
    assert quote_currency({}) == ""
    with pytest.raises(ConfigError, match=r"USDT \(BTC/USDT:USDT\), ZAR \(BTC/ZAR\)"):
        quote_currency(OFFERED)


def test_unknown_symbols_are_refused_with_what_is_offered() -> None:
    with pytest.raises(ConfigError, match="unknown symbol 'DOGE/ZAR'; offered: BTC/USDT:USDT, BTC/ZAR"):
        choose_symbols(["BTC/ZAR", "DOGE/ZAR"], OFFERED, ())


def test_reference_is_the_first_traded_pair_of_btc() -> None:
    assert reference_symbol(("ETH/ZAR", "BTC/USDT:USDT", "BTC/ZAR"), OFFERED) == "BTC/USDT:USDT"
    assert reference_symbol(("ETH/ZAR",), OFFERED) is None


def test_a_port_in_use_is_refused_and_zero_gives_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="in use"):
            check_port("127.0.0.1", taken.getsockname()[1])
    port = check_port("127.0.0.1", 0)
    assert port > 0
    assert check_port("127.0.0.1", port) == port


def test_replay_plan_spans_all_symbols(tmp_path: Path) -> None:
    for name, first in (("BTCUSDT", 0), ("ETHUSDT", 3)):
        times = pa.array([START_MS + 60_000 * (first + i) for i in range(4)], pa.timestamp("ms", tz="UTC"))
        prices = {column: [100.5] * 4 for column in ("open", "high", "low", "close", "volume")}
        pq.write_table(pa.table({"ts": times} | prices), tmp_path / f"{name}_1m.parquet")
    both, one = plan_replay(tmp_path, ()), plan_replay(tmp_path, ("ETH/USDT",))
    assert sorted(both.instruments) == ["BTC/USDT", "ETH/USDT"]
    assert (both.start_ns, both.end_ns) == (START_MS * 10**6, (START_MS + 7 * 60_000) * 10**6)
    assert one.start_ns == (START_MS + 3 * 60_000) * 10**6


def test_run_ids_differ() -> None:
    assert len({new_run_id() for _ in range(3)}) >= 2


def test_summary_of_a_run_and_of_one_that_never_started() -> None:
    info = RunInfo(7, "http://h", "url", "s", "run-1", "sandbox", "ZAR", 100.0)
    snapshot = {"state": "RUNNING", "counters": {"orders": 3, "restarts": 2}, "first_prediction_at": 104.25, "equity": "99999.5"}
    summary = summarise(snapshot | {"positions": [{}, {}], "model": {"version": "m"}}, info, 12.345)
    assert (summary["orders"], summary["fills"], summary["restarts"], summary["open_positions"]) == (3, 0, 2, 2)
    assert (summary["first_prediction_s"], summary["running_s"], summary["equity"], summary["model"]) == (4.2, 12.3, "99999.5", "m")
    empty = summarise({}, info, 0.0)
    assert (empty["first_prediction_s"], empty["equity"], [empty[c] for c in COUNTED]) == (None, None, [0] * len(COUNTED))
    json.dumps(empty)
