"""The sandbox exchange on a port: VALR's public REST routes and trade socket, fed by the synthetic market."""

from __future__ import annotations

import asyncio
import http
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from helios.clock import VenueClock
from helios.errors import ConfigError
from helios.venues.sandbox import state, wire
from helios.venues.sandbox.admin import PREFIX, Admin
from helios.venues.sandbox.broadcast import Broadcast
from helios.venues.sandbox.clients import Client
from helios.venues.sandbox.connection import PutConnection
from helios.venues.sandbox.edge import Edge, HttpAnswer
from helios.venues.sandbox.exchange import Exchange
from helios.venues.sandbox.files import recorded_exchange
from helios.venues.sandbox.lines import Line
from helios.venues.sandbox.macro import MINUTE_NS
from helios.venues.sandbox.options import SandboxConfig
from helios.venues.sandbox.ratelimits import RateLimits
from helios.venues.sandbox.rest import Reply, RestApi
from helios.venues.sandbox.specs import SPECS, MarketConfig
from helios.venues.sandbox.subscriptions import Channel
from helios.venues.sandbox.switch import FaultSwitch
from helios.venues.sandbox.truth import Truth
from helios.venues.sandbox.upgrade import BAD_SIGNATURE, Identity, identify

__all__ = ["SandboxConfig", "SandboxExchange"]

log = logging.getLogger(__name__)

SOCKET_PATH = "/ws/trade"
BATCH_S = 0.05  # wall time between batches of steps
MAX_BATCH_STEPS = 60
SUMMARY_S = 1.0  # wall time between summaries and aggregated books
MARK_EVERY = 3  # mark prices once in so many summaries
WATCH_S = 0.1
REAP_S = 0.5
AUTHENTICATED = wire.dump({"type": "AUTHENTICATED"})
MIN_SAVE_BREAK = 10.0  # pause after a save, in multiples of the time it took


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
        self.switch = FaultSwitch(config.faults, self.clock.now_ns)
        self._broadcast = Broadcast(self.exchange)
        rest = RestApi(self.exchange, self.clock.now_ns, lambda pair: self._broadcast.orders(pair).rest())
        self._edge = Edge(rest, self.switch, RateLimits() if config.rate_limits else None, wall_ns)
        self._truth = Truth([(spec.symbol, pair) for pair, spec in self.exchange.specs.items()], self.exchange.time_ns)
        self._admin = Admin(self.switch, self._truth, list(self.exchange.specs), self.clock.now_ns, config.speed)
        self._secrets = dict(config.api_keys)
        self._lines: set[Line] = set()
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
                create_connection=PutConnection, compression="deflate" if self.config.compress else None,
                ping_interval=None, close_timeout=0.5, max_size=65_536, server_header="helios-sandbox",
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

    async def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        assert isinstance(connection, PutConnection)
        address = str((connection.remote_address or ("",))[0])
        if request.path.partition("?")[0] == SOCKET_PATH and connection.body is None:
            refused = self._edge.refuse_upgrade(address)
            return None if refused is None else _response(connection, refused)
        self._catch_up()  # so that a minute that /time says is over is among the buckets
        if self.config.admin and request.path.startswith(PREFIX):
            answer = self._edge.plain(self._admin.answer(request.path, connection.body))
        elif connection.body is not None:
            answer = self._edge.plain(Reply(404, b'{"code":-11,"message":"Invalid Request"}'))
        else:
            answer = self._edge.answer(request.path, address)
        if answer.delay_wall_s > 0.0:
            await asyncio.sleep(answer.delay_wall_s)
        return _response(connection, answer)

    async def _serve_client(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        identity = identify(connection.request.headers, connection.request.path, self._secrets)
        if identity is Identity.REFUSED:
            await connection.close(*BAD_SIGNATURE)
            return
        now, is_known = self._monotonic(), identity is Identity.AUTHENTICATED
        client = Client(connection, list(self.exchange.specs), self.config.queue_frames, now, is_known)
        line = Line(client, self.switch, self.config.speed, now)
        if is_known:
            client.offer(AUTHENTICATED)
        self._lines.add(line)
        writer = asyncio.create_task(client.write())
        try:
            async for message in connection:
                client.heard_s = self._monotonic()
                self._receive(line, message)
        except ConnectionClosed:
            log.debug("client gone")
        finally:
            self._lines.discard(line)
            writer.cancel()

    def _receive(self, line: Line, message: str | bytes) -> None:
        replies, opened = line.client.subscriptions.receive(message)
        now = self._monotonic()
        for reply in replies:
            line.reply(reply, now)
        for channel in opened:
            frame = self._broadcast.present(channel)
            if frame is not None:
                line.reply(frame, now)

    async def _pace(self) -> None:
        # Steps until market time has caught up; after a stall in pieces, so that writers get their turn.
        while True:
            self._catch_up()
            behind = self.clock.now_ns() - self.exchange.time_ns
            await asyncio.sleep(BATCH_S / 10 if behind > self.config.speed * 2e9 * BATCH_S + 1e9 else BATCH_S)

    def _catch_up(self) -> None:
        until, wanted, now = self.clock.now_ns(), self._wanted(), self._monotonic()
        self.exchange.keeps_books_ns = int(self.switch.plan.stale_cache_market_s * 1e9) if self.switch.plan.stale_cache else 0
        for _ in range(MAX_BATCH_STEPS):
            before = self.exchange.time_ns
            events = self.exchange.advance(until, 1)
            if self.exchange.time_ns == before:
                break
            if self.config.admin:
                self._truth.take(events)
            for channel, frame in self._broadcast.frames(events, wanted):
                _offer_all(wanted[channel], channel, frame, now)

    def _wanted(self) -> dict[Channel, list[Line]]:
        wanted: dict[Channel, list[Line]] = {}
        for line in self._lines:
            for channel in line.client.subscriptions.channels:
                wanted.setdefault(channel, []).append(line)
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
            for channel, lines in self._wanted().items():
                frame = self._broadcast.present(channel) if channel[0] in due else None
                if frame is not None:
                    _offer_all(lines, channel, frame, self._monotonic())

    async def _watch_clients(self) -> None:
        reaped_s = self._monotonic()
        while True:
            await asyncio.sleep(min(WATCH_S, self.config.idle_s / 4))
            now = self._monotonic()
            is_reaping = now - reaped_s >= REAP_S
            reaped_s = now if is_reaping else reaped_s
            for line in list(self._lines):
                client = line.client
                line.look(now)
                if is_reaping:
                    client.reap()
                if not client.is_authenticated and now - client.connected_s > self.config.lifetime_s:
                    self._lines.discard(line)
                    await client.close("unauthenticated connections last 15 minutes")
                elif not client.subscriptions.channels and now - client.heard_s > self.config.idle_s:
                    client.cut()


def _market(config: SandboxConfig, wall_ns: Callable[[], int]) -> tuple[Exchange, int]:
    # The market and the time at which it goes on: the saved one if there is one, else a new one.
    if config.recorded is not None:
        symbols = None if config.symbols == tuple(SPECS) else config.symbols  # the usual six are no choice here
        exchange = recorded_exchange(config.recorded, symbols, config.seed, config.start_ns)
        return exchange, exchange.time_ns
    market = MarketConfig(
        symbols=config.symbols, flow_strength=config.flow_strength,
        jump_probability=config.jump_probability, jump_size=config.jump_size,
    )  # fmt: skip
    saved = None if config.state_file is None else state.read(config.state_file, market, config.seed)
    if saved is not None:
        return saved
    start = (wall_ns() if config.start_ns is None else config.start_ns) // MINUTE_NS * MINUTE_NS
    return Exchange.new(market, config.seed, start), start


def _offer_all(lines: list[Line], channel: Channel, frame: bytes, now_s: float) -> None:
    for line in lines:
        line.offer(channel, frame, now_s)


def _response(connection: ServerConnection, answer: HttpAnswer) -> Response:
    response = connection.respond(http.HTTPStatus(answer.status), "")
    response.body = answer.body
    for name in ("Content-Type", "Content-Length", "Date"):
        if name in response.headers:
            del response.headers[name]
    response.headers["Content-Length"] = str(len(answer.body))
    for name, value in answer.headers:
        response.headers[name] = value
    return response
