"""The main job: everything a desk needs, started in order, stopped in reverse, whatever happens in between."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

from cluster.database import database, prepare_schema, schema_of
from cluster.options import (
    ReplayPlan,
    UpOptions,
    check_port,
    new_run_id,
    plan_replay,
)
from cluster.sandbox import sandbox_exchange
from cluster.summary import summarise
from helios import __version__
from helios.cli.rundir import RunDir, RunInfo
from helios.config import HeliosConfig
from helios.domain.market import Instrument, quote_currency
from helios.domain.universe import choose_symbols, reference_symbol
from helios.errors import RetryableError
from helios.learn.cards import model_card

DEFAULT_SYMBOLS = ("BTC/ZAR", "ETH/ZAR", "SOL/ZAR", "XRP/ZAR", "AVAX/ZAR", "LINK/ZAR")
STATUS_INTERVAL_S = 10.0
_HELD: list[RunDir] = []
"""Keeps the directory's lock until the process ends: only then is everything of the desk gone."""


def run(options: UpOptions) -> dict[str, Any]:
    """Run a desk until its duration, the end of its replay, or a signal; return the summary.

    Raises
    ------
    HeliosError
        With one clear line, before or during the run; everything started is stopped.
    """
    stop = StopRequest()
    stop.listen()
    with ExitStack() as stack:
        return _run(options, stack, stop)


def _run(options: UpOptions, stack: ExitStack, stop: StopRequest) -> dict[str, Any]:
    say = _Narrator(options.as_json)
    config = _with_registry(options.config)
    plan = plan_replay(options.replay, config.desk.symbols) if options.replay is not None else None
    card = model_card(config.model)
    port = check_port(config.api.host, config.api.port)
    rundir = RunDir(Path(config.store.state_dir).resolve())
    rundir.prepare()
    rundir.lock()
    _HELD.append(rundir)
    (rundir.path / "logs").mkdir(exist_ok=True)
    say("starting PostgreSQL")
    kind, dsn = stack.enter_context(database(rundir.path, say))
    schema = schema_of(config, plan is not None)
    dsn = prepare_schema(dsn, schema, fresh=plan is not None)
    config, instruments = _markets(config, plan, stack, rundir, say)
    symbols = choose_symbols(config.desk.symbols, instruments, DEFAULT_SYMBOLS)
    chosen = {s: instruments[s] for s in symbols}
    quote_currency(chosen)  # refuses several before anything is started
    # Ray, torch and the actors are imported only now: mistakes in options are told within a second.
    from actors.base import DeskSpec

    spec = DeskSpec(
        config=config.model_copy(update={"api": config.api.model_copy(update={"port": port})}),
        dsn=dsn,
        run_id=new_run_id(),
        symbols=symbols,
        reference_symbol=reference_symbol(symbols, chosen),
        replay_path=str(options.replay.resolve()) if options.replay is not None else None,
        state_dir=str(rundir.path),
    )
    about = _about(spec.config, chosen, card, options, plan)
    desk, info = _start(spec, chosen, about, options, rundir, stack, say, (kind, schema), stop)
    return _watch(desk, spec, options, plan, stop, say, info)


def _with_registry(config: HeliosConfig) -> HeliosConfig:
    """Let the desk find what `helios train` registered in its state directory."""
    if config.model.registry_dir:
        return config
    registry = str(Path(config.store.state_dir).resolve() / "models")
    return config.model_copy(update={"model": config.model.model_copy(update={"registry_dir": registry})})


def _markets(
    config: HeliosConfig, plan: ReplayPlan | None, stack: ExitStack, rundir: RunDir, say: _Narrator
) -> tuple[HeliosConfig, dict[str, Instrument]]:
    """Return the configuration with the venue's addresses, and what the venue offers."""
    if plan is not None:
        return config, plan.instruments
    if config.venue.name == "sandbox":
        say("starting the sandbox exchange")
        answer = stack.enter_context(sandbox_exchange(config, rundir.path))
        urls = {"rest_url": str(answer["rest_url"]), "ws_url": str(answer["ws_url"])}
        config = config.model_copy(update={"venue": config.venue.model_copy(update=urls)})
    return config, asyncio.run(_instruments(config))


async def _instruments(config: HeliosConfig) -> dict[str, Instrument]:
    from helios.venues.factory import make_venue

    venue = make_venue(config.venue)
    try:
        return {i.symbol: i for i in await venue.instruments()}
    finally:
        await venue.aclose()


def _about(
    config: HeliosConfig,
    instruments: Mapping[str, Instrument],
    card: Mapping[str, Any],
    options: UpOptions,
    plan: ReplayPlan | None,
) -> dict[str, Any]:
    """What does not change during the run."""
    return {
        "version": __version__,
        "venue": "replay" if plan is not None else config.venue.name,
        "is_synthetic": plan is None and config.venue.name == "sandbox",
        "speed": options.speed if plan is not None else config.venue.speed if config.venue.name == "sandbox" else 1.0,
        "currency": quote_currency(instruments),
        "decision_timeframe": config.desk.decision_timeframe,
        "config_digest": config.digest(),
        "model": dict(card),
        "disclaimer": "Research software. Paper trading. Nothing here is financial advice.",
    }


def _start(
    spec: Any,
    instruments: Mapping[str, Instrument],
    about: Mapping[str, Any],
    options: UpOptions,
    rundir: RunDir,
    stack: ExitStack,
    say: _Narrator,
    store: tuple[str, str],
    stop: StopRequest,
) -> tuple[Any, RunInfo]:
    stop.check()
    say("starting Ray")
    from cluster import ray_runtime

    dashboard = stack.enter_context(ray_runtime.ray_session(options.address))
    stop.listen()
    stop.check()
    with ThreadPoolExecutor(2) as pool:
        say(f"starting the predictor (model {spec.config.model.version}) and {len(spec.symbols)} symbols")
        served = pool.submit(ray_runtime.serve_predictor, spec.config, stack, options.address is None)
        desk = ray_runtime.start_desk(spec, instruments, about)
        served.result()
    stack.callback(ray_runtime.stop_desk, desk)
    stop.check()
    url = ray_runtime.serve_gateway(spec, rundir.token(), say)
    info = RunInfo(
        pid=os.getpid(),
        api_url=url,
        database=store[0],
        schema=store[1],
        run_id=spec.run_id,
        venue=str(about["venue"]),
        currency=str(about["currency"]),
        started_at=say.started_at,
        ray_dashboard=dashboard,
    )
    rundir.write(info)
    stop.listen()
    say(f"dashboard  {url}/#token={rundir.token()}")
    if dashboard:
        say(f"Ray        {dashboard}")
    return desk, info


def _watch(
    desk: Any,
    spec: Any,
    options: UpOptions,
    plan: ReplayPlan | None,
    stop: StopRequest,
    say: _Narrator,
    info: RunInfo,
) -> dict[str, Any]:
    from cluster.owners import OwnerKeeper
    from cluster.ray_runtime import Control

    control, owners = Control(desk), OwnerKeeper(desk, say)
    state = control.begin()
    running_since = time.monotonic()
    say(f"{state}: {', '.join(spec.symbols)}   (Ctrl-C stops)")
    replay = control.replay(plan.start_ns, plan.end_ns, options.speed) if plan is not None else None
    last_told = time.monotonic()
    while not stop.wait(0.25):
        if options.duration_s is not None and time.monotonic() - running_since >= options.duration_s:
            break
        if replay is not None and control.is_done(replay):
            break
        if replay is None:
            owners.look()
        if time.monotonic() - last_told >= STATUS_INTERVAL_S:
            last_told = time.monotonic()
            try:
                say.status(control.snapshot())
            except RetryableError as error:  # it is being restarted; everybody else goes on meanwhile, and so does the desk
                say(str(error))
    if replay is not None:
        control.end_replay(replay)
    control.flush()
    snapshot = control.last_snapshot()
    control.finish()
    say("stopping")
    return summarise(snapshot, info, time.monotonic() - running_since)


class StopRequest:
    """SIGINT and SIGTERM ask for a clean stop, once the step under way is done; they never break off the cleaning up."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def listen(self) -> None:
        """Take the signals over; to be called again after Ray's start, which puts a handler of its own in their place."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: object) -> None:
        self._event.set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep; True as soon as a stop is asked for."""
        return self._event.wait(timeout_s)

    def check(self) -> None:
        """Leave the start-up if a stop is asked for.

        Raises
        ------
        RetryableError
            Then.
        """
        if self._event.is_set():
            raise RetryableError("stopped before the desk was running")


class _Narrator:
    """Progress on stderr; stdout belongs to the summary."""

    def __init__(self, as_json: bool) -> None:
        self.started_at = time.time()
        self._started = time.monotonic()
        self._as_json = as_json

    def __call__(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:6.1f} s] {text}", file=sys.stderr, flush=True)

    def status(self, snapshot: Mapping[str, Any]) -> None:
        counters = snapshot.get("counters", {})
        self(
            f"{snapshot['state']}  equity {_money(snapshot.get('equity'))} {snapshot['currency']}"
            f"  candles {counters.get('candles', 0)}  predictions {counters.get('predictions', 0)}"
            f"  decisions {counters.get('decisions', 0)}  orders {counters.get('orders', 0)}"
            f"  fills {counters.get('fills', 0)}  open {sum(not p['is_dust'] for p in snapshot.get('positions', []))}"
        )


def _money(amount: str | None) -> str:
    """For people; the summary and the API keep every digit."""
    return "?" if amount is None else f"{Decimal(amount):,.2f}"
