"""The sandbox exchange on a port: VALR's public REST routes and trade socket, fed by the synthetic market."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from helios.clock import VenueClock
from helios.domain.market import BookUpdate
from helios.errors import ConfigError, DataError
from helios.venues.sandbox import state, wire
from helios.venues.sandbox.clients import Client
from helios.venues.sandbox.exchange import Exchange
from helios.venues.sandbox.macro import MINUTE_NS
from helios.venues.sandbox.options import SandboxConfig
from helios.venues.sandbox.rest import RestApi
from helios.venues.sandbox.specs import SPECS, MarketConfig
from helios.venues.sandbox.subscriptions import Channel
from helios.venues.sandbox.ticks import MarketEvent, TickTrade

__all__ = ["SandboxConfig", "SandboxExchange", "main", "serve"]

log = logging.getLogger(__name__)

SOCKET_PATH = "/ws/trade"
BATCH_S = 0.05  # wall time between batches of steps
MAX_BATCH_STEPS = 60
SUMMARY_S = 1.0  # wall time between summaries and aggregated books
MARK_EVERY = 3  # mark prices once in so many summaries
WATCH_S = 0.5
MIN_SAVE_BREAK = 10.0  # pause after a save, in multiples of the time it took
PARENT_WATCH_S = 1.0


class SandboxExchange:
    """The exchange with its sockets.

    Parameters
    ----------
    config : SandboxConfig
    monotonic, wall_ns : callable
        Wall clocks.

    Notes
    -----
    After `start` the properties `rest_url` and `ws_url` hold; `stop` ends everything. Both close codes that VALR's
    documentation leaves open (life time 1001, slow 1008) are chosen here. With a state file the constructor raises DataError
    if it cannot be read.
    """

    def __init__(
        self,
        config: SandboxConfig,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.config = config
        self._monotonic = monotonic
        self.exchange, clock_ns = _market(config, wall_ns)
        self.clock = VenueClock(clock_ns, monotonic(), config.speed, monotonic)
        self._rest = RestApi(self.exchange, self.clock.now_ns)
        self._clients: set[Client] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: Server | None = None
        self._writer = ThreadPoolExecutor(1, "sandbox-state")  # one thread, so that a later save ends later

    @property
    def port(self) -> int:
        """Bound port."""
        assert self._server is not None
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def rest_url(self) -> str:
        return f"http://{self.config.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.config.host}:{self.port}{SOCKET_PATH}"

    async def start(self) -> None:
        """Bind and begin trading; raises ConfigError if the port is taken."""
        try:
            self._server = await serve_websocket(
                self._serve_client, self.config.host, self.config.port, process_request=self._answer_http,
                compression=None, ping_interval=None, close_timeout=0.5, max_size=65_536, server_header="helios-sandbox",
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(f"sandbox: cannot listen on {self.config.host}:{self.config.port}: {error.strerror}") from error
        loops = [self._pace(), self._summarise(), self._watch_clients()]
        if self.config.state_file is not None:
            loops.append(self._save_now_and_then(self.config.state_file))
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """Close all connections, save the market and stop; a market whose loops broke is not saved."""
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            if self.config.state_file is not None and all(isinstance(end, asyncio.CancelledError) for end in ends):
                self._catch_up()
                await self._save(self.config.state_file)
            await self._server.wait_closed()
        self._writer.shutdown()

    async def failed(self) -> None:
        """Wait for ever, or raise what ended one of the loops."""
        await asyncio.gather(*self._tasks)

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path.split("?")[0] == SOCKET_PATH:
            return None
        self._catch_up()  # so that a minute that /time says is over is among the buckets
        reply = self._rest.get(request.path)
        response = connection.respond(http.HTTPStatus(reply.status), "")
        response.body = reply.body
        del response.headers["Content-Type"], response.headers["Content-Length"]
        response.headers["Content-Type"] = "application/json"
        response.headers["Content-Length"] = str(len(reply.body))
        return response

    async def _serve_client(self, connection: ServerConnection) -> None:
        client = Client(connection, list(self.exchange.specs), self.config.queue_frames, self._monotonic())
        self._clients.add(client)
        writer = asyncio.create_task(client.write())
        try:
            async for message in connection:
                client.heard_s = self._monotonic()
                self._receive(client, message)
        except ConnectionClosed:
            log.debug("client gone")
        finally:
            self._clients.discard(client)
            writer.cancel()

    def _receive(self, client: Client, message: str | bytes) -> None:
        replies, opened = client.subscriptions.receive(message)
        for reply in replies:
            client.offer(reply)
        for channel in opened:
            frame = self._present(channel)
            if frame is not None:
                client.offer(frame)

    def _present(self, channel: Channel) -> bytes | None:
        # What a new subscriber gets at once. Trades and candles are not repeated.
        event, pair = channel
        if event == wire.OB_L1_DIFF:
            return wire.book_frame(pair, self.exchange.book(pair))
        if event == wire.AGGREGATED_ORDERBOOK_UPDATE:
            return wire.aggregated_frame(pair, self.exchange.book(pair))
        if event == wire.MARKET_SUMMARY_UPDATE:
            return wire.summary_frame(pair, self.exchange.summary(pair))
        if event == wire.MARK_PRICE_UPDATE:
            return wire.mark_price_frame(pair, self.exchange.mark_price(pair))
        return None

    async def _pace(self) -> None:
        # Steps until market time has caught up; after a stall in pieces, so that writers get their turn.
        while True:
            self._catch_up()
            behind = self.clock.now_ns() - self.exchange.time_ns
            await asyncio.sleep(BATCH_S / 10 if behind > self.config.speed * 2e9 * BATCH_S + 1e9 else BATCH_S)

    def _catch_up(self) -> None:
        self._broadcast(self.exchange.advance(self.clock.now_ns(), MAX_BATCH_STEPS))

    def _broadcast(self, events: list[MarketEvent]) -> None:
        wanted = self._wanted()
        for event in events:
            channel = (_channel_event(event), self.exchange.pair_of(event.symbol))
            if channel in wanted:
                frame = _frame(channel[1], event)
                self._offer_all(wanted[channel], frame)

    @staticmethod
    def _offer_all(clients: list[Client], frame: bytes) -> None:
        for client in clients:
            client.offer(frame)

    def _wanted(self) -> dict[Channel, list[Client]]:
        wanted: dict[Channel, list[Client]] = {}
        for client in self._clients:
            for channel in client.subscriptions.channels:
                wanted.setdefault(channel, []).append(client)
        return wanted

    async def _save_now_and_then(self, path: Path) -> None:
        # The first at once, so that a market that anybody saw is never lost; a slow disk gets longer breaks.
        while True:
            before = self._monotonic()
            await self._save(path)
            took_s = self._monotonic() - before
            await asyncio.sleep(max(self.config.state_every_s, MIN_SAVE_BREAK * took_s))

    async def _save(self, path: Path) -> None:
        now = state.snapshot(self.exchange, self.config.seed, max(self.clock.now_ns(), self.exchange.time_ns))
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, state.write, path, now)
        except OSError as error:
            log.warning("the market was not saved: %s", error)

    async def _summarise(self) -> None:
        count = 0
        while True:
            await asyncio.sleep(SUMMARY_S)
            count += 1
            due = {wire.MARKET_SUMMARY_UPDATE, wire.AGGREGATED_ORDERBOOK_UPDATE}
            due |= {wire.MARK_PRICE_UPDATE} if count % MARK_EVERY == 0 else set()
            for channel, clients in self._wanted().items():
                frame = self._present(channel) if channel[0] in due else None
                if frame is not None:
                    self._offer_all(clients, frame)

    async def _watch_clients(self) -> None:
        while True:
            await asyncio.sleep(min(WATCH_S, self.config.idle_s / 4))
            now = self._monotonic()
            for client in list(self._clients):
                client.reap()
                if now - client.connected_s > self.config.lifetime_s:
                    self._clients.discard(client)
                    await client.close("unauthenticated connections last 15 minutes")
                elif not client.subscriptions.channels and now - client.heard_s > self.config.idle_s:
                    client.cut()


def _market(config: SandboxConfig, wall_ns: Callable[[], int]) -> tuple[Exchange, int]:
    # The market and the time at which it goes on: the saved one if there is one, else a new one.
    market = MarketConfig(symbols=config.symbols, flow_strength=config.flow_strength)
    saved = None if config.state_file is None else state.read(config.state_file, market, config.seed)
    if saved is not None:
        return saved
    start = (wall_ns() if config.start_ns is None else config.start_ns) // MINUTE_NS * MINUTE_NS
    return Exchange.new(market, config.seed, start), start


def _channel_event(event: MarketEvent) -> str:
    if isinstance(event, BookUpdate):
        return wire.OB_L1_DIFF
    return wire.NEW_TRADE if isinstance(event, TickTrade) else wire.NEW_TRADE_BUCKET


def _frame(pair: str, event: MarketEvent) -> bytes:
    if isinstance(event, BookUpdate):
        return wire.book_frame(pair, event)
    return wire.trade_frame(pair, event) if isinstance(event, TickTrade) else wire.bucket_frame(pair, event)


async def serve(config: SandboxConfig) -> None:
    """Run until SIGTERM, SIGINT or the parent's end; print one JSON line with the addresses when ready."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sandbox = SandboxExchange(config)
    await sandbox.start()
    ready = {"rest_url": sandbox.rest_url, "ws_url": sandbox.ws_url, "pid": os.getpid()}
    print(json.dumps(ready), flush=True)
    watch = asyncio.create_task(_watch_parent(config.parent_pid, stop))
    stopped, failed = asyncio.create_task(stop.wait()), asyncio.create_task(sandbox.failed())
    done, _ = await asyncio.wait((stopped, failed), return_when=asyncio.FIRST_COMPLETED)
    watch.cancel()
    failed_error = failed.exception() if failed in done else None
    failed.cancel()
    await sandbox.stop()
    if failed_error is not None:
        raise failed_error


async def _watch_parent(parent_pid: int | None, stop: asyncio.Event) -> None:
    if parent_pid is None:
        return
    try:
        parent = psutil.Process(parent_pid)
        # is_running knows the process by its start time, so a reused number does not count.
        while not stop.is_set() and parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PARENT_WATCH_S)
    except psutil.NoSuchProcess:
        pass
    stop.set()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse arguments, run, return the exit code; a taken port, a wrong value or a broken state file is one line on stderr and 1."""
    args = _parser().parse_args(argv)
    try:
        config = SandboxConfig(
            host=args.host, port=args.port, speed=args.speed, seed=args.seed,
            symbols=tuple(args.symbols.split(",")), flow_strength=args.flow_strength, start_ns=args.start_ns,
            idle_s=args.idle_s, lifetime_s=args.lifetime_s, parent_pid=args.parent_pid,
            state_file=args.state_file, state_every_s=args.state_every_s,
        )  # fmt: skip
        asyncio.run(serve(config))
    except (ConfigError, DataError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    default = SandboxConfig()
    parser = argparse.ArgumentParser(prog="python -m helios.venues.sandbox", description=__doc__)
    parser.add_argument("--host", default=default.host)
    parser.add_argument("--port", type=int, default=default.port, help="0 takes a free port")
    parser.add_argument("--speed", type=float, default=default.speed, help="market seconds per wall second")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--symbols", default=",".join(SPECS), help="comma-separated")
    parser.add_argument("--flow-strength", type=float, default=default.flow_strength, help="0: unpredictable returns")
    parser.add_argument("--start-ns", type=int, default=None, help="first market time, ns UTC; the present minute by default")
    parser.add_argument("--idle-s", type=float, default=default.idle_s, help="cut sockets idle for so long")
    parser.add_argument("--lifetime-s", type=float, default=default.lifetime_s, help="cut every socket after so long")
    parser.add_argument("--parent-pid", type=int, default=None, help="stop when this process is gone")
    parser.add_argument("--state-file", type=Path, default=None, help="keep the market here over restarts")
    parser.add_argument("--state-every-s", type=float, default=default.state_every_s, help="wall seconds between saves")
    return parser
