"""The sandbox exchange on a port: VALR's public REST routes and trade socket, fed by the synthetic market."""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from helios.clock import VenueClock
from helios.domain.market import BookUpdate
from helios.errors import ConfigError
from helios.venues.sandbox import wire
from helios.venues.sandbox.exchange import Exchange
from helios.venues.sandbox.macro import MINUTE_NS
from helios.venues.sandbox.rest import RestApi
from helios.venues.sandbox.specs import SPECS, MarketConfig
from helios.venues.sandbox.subscriptions import Channel, Subscriptions
from helios.venues.sandbox.ticks import MarketEvent, TickTrade

log = logging.getLogger(__name__)

SOCKET_PATH = "/ws/trade"
BATCH_S = 0.05  # wall time between batches of steps
MAX_BATCH_STEPS = 60
SUMMARY_S = 1.0  # wall time between summaries and aggregated books
MARK_EVERY = 3  # mark prices once in so many summaries
WATCH_S = 0.5
SLOW_CLIENT = 1008


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """How the exchange runs.

    Attributes
    ----------
    host, port : str, int
        Port 0 takes a free one.
    speed : float
        Market seconds per wall second.
    seed : int
    symbols : tuple of str
    flow_strength : float
        See MarketConfig.
    start_ns : int, optional
        First market time; the wall clock's minute by default.
    idle_s, lifetime_s : float
        Wall seconds after which a socket without subscriptions and frames, and any socket, is cut.
    queue_frames : int
        Frames that may wait for one client before it is cut as too slow.
    parent_pid : int, optional
        Stop when this process is gone.
    """

    host: str = "127.0.0.1"
    port: int = 0
    speed: float = 60.0
    seed: int = 7
    symbols: tuple[str, ...] = tuple(SPECS)
    flow_strength: float = 1.0
    start_ns: int | None = None
    idle_s: float = 60.0
    lifetime_s: float = 900.0
    queue_frames: int = 5_000
    parent_pid: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.speed <= 600:
            raise ConfigError(f"sandbox speed {self.speed}: must be above 0 and at most 600")


class Client:
    """A connected trade socket: what it wants and what waits to be sent."""

    def __init__(self, connection: ServerConnection, pairs: list[str], queue_frames: int, now_s: float) -> None:
        self.subscriptions = Subscriptions(pairs)
        self.connected_s = self.heard_s = now_s
        self.is_slow = False
        self._connection = connection
        self._frames: deque[bytes] = deque()
        self._queue_frames = queue_frames
        self._ready = asyncio.Event()

    def offer(self, frame: bytes) -> None:
        """Queue a frame; a client that is too far behind is marked slow and gets nothing more."""
        if len(self._frames) >= self._queue_frames:
            self.is_slow = True
            self._frames.clear()
        if not self.is_slow:
            self._frames.append(frame)
        self._ready.set()

    async def write(self) -> None:
        """Send what is queued until the connection ends."""
        with contextlib.suppress(ConnectionClosed):
            while not self.is_slow:
                await self._ready.wait()
                self._ready.clear()
                while self._frames and not self.is_slow:
                    await self._connection.send(self._frames.popleft(), text=True)
            await self._connection.close(SLOW_CLIENT, "too slow")

    def cut(self) -> None:
        """Drop the connection without a close frame, as the venue does with idle sockets."""
        self._connection.transport.abort()

    async def close(self, reason: str) -> None:
        """Close the connection."""
        await self._connection.close(1001, reason)


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
    documentation leaves open (life time 1001, slow 1008) are chosen here.
    """

    def __init__(
        self,
        config: SandboxConfig,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.config = config
        self._monotonic = monotonic
        start = (wall_ns() if config.start_ns is None else config.start_ns) // MINUTE_NS * MINUTE_NS
        market = MarketConfig(symbols=config.symbols, flow_strength=config.flow_strength)
        self.exchange = Exchange(market, config.seed, start)
        self.clock = VenueClock(start, monotonic(), config.speed, monotonic)
        self._rest = RestApi(self.exchange, self.clock.now_ns)
        self._clients: set[Client] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: Server | None = None

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
        loops = (self._pace(), self._summarise(), self._watch_clients())
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """Close all connections and stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

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
                if now - client.connected_s > self.config.lifetime_s:
                    self._clients.discard(client)
                    await client.close("unauthenticated connections last 15 minutes")
                elif not client.subscriptions.channels and now - client.heard_s > self.config.idle_s:
                    client.cut()


def _channel_event(event: MarketEvent) -> str:
    if isinstance(event, BookUpdate):
        return wire.OB_L1_DIFF
    return wire.NEW_TRADE if isinstance(event, TickTrade) else wire.NEW_TRADE_BUCKET


def _frame(pair: str, event: MarketEvent) -> bytes:
    if isinstance(event, BookUpdate):
        return wire.book_frame(pair, event)
    return wire.trade_frame(pair, event) if isinstance(event, TickTrade) else wire.bucket_frame(pair, event)
