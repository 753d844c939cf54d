"""The dashboard in a real browser, over the real API and a fake desk."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from helios.errors import TransportError
from serve.gateway import build_api
from serve.security import Security
from tests.support.desk_fake import FakeDesk

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
TOKEN = "secret-token"


class Server:
    """uvicorn in a thread, on a port that stays the same over restarts."""

    def __init__(self, desk: FakeDesk) -> None:
        self.desk = desk
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/#token={TOKEN}"

    def start(self) -> None:
        api = build_api(self.desk, Security(token=TOKEN), push_interval_s=0.1)
        config = uvicorn.Config(api, "127.0.0.1", self.port, log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(FakeDesk())
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server.url)
    expect(page.locator("#connection")).to_have_text("Connected")
    yield page
    context.close()
    assert problems == []


def test_equity_moves_without_a_reload(page: Page, server: Server, tmp_path: Path) -> None:
    expect(page.locator("#equity")).to_have_text("101,500.00 ZAR")
    expect(page.locator("#equity-change")).to_contain_text("+1,500 (+1.50%)")
    server.desk.equity = Decimal("98750.5")
    expect(page.locator("#equity")).to_have_text("98,750.50 ZAR", timeout=5_000)
    expect(page.locator("#equity-change")).to_have_class("quiet bad")
    folder = Path(os.environ.get("HELIOS_SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / "desktop.png", full_page=True)
    page.set_viewport_size({"width": 390, "height": 844})
    page.screenshot(path=folder / "mobile.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (folder / "mobile.png").stat().st_size > 10_000


def test_token_leaves_the_address_bar_and_survives_a_reload(page: Page) -> None:
    assert TOKEN not in page.url
    page.reload()
    expect(page.locator("#connection")).to_have_text("Connected")


def test_without_a_token_the_page_asks_and_shows_nothing_healthy(browser: Browser, server: Server) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url.split("#")[0])
    expect(page.locator("#token-form")).to_be_visible()
    assert page.locator(".healthy").count() == 0
    page.fill("#token", "wrong")
    page.click("#token-form button")
    expect(page.locator("#notice")).to_have_text("The token was refused.")
    page.fill("#token", TOKEN)
    page.click("#token-form button")
    expect(page.locator("#connection")).to_have_text("Connected")
    context.close()


def test_a_decision_explains_itself_in_a_dialog(page: Page) -> None:
    page.locator("#decisions tr").first.click()
    expect(page.locator("#explanation")).to_be_visible()
    expect(page.locator("#explanation-body")).to_contain_text("Trend and flow agree.")
    page.keyboard.press("Escape")
    expect(page.locator("#explanation")).to_be_hidden()


def test_text_from_the_desk_is_never_markup(page: Page, server: Server) -> None:
    server.desk.note = "<img src=x onerror=alert(1)>"
    expect(page.locator("#decisions")).to_contain_text(server.desk.note)
    assert page.locator("#decisions img").count() == 0


def test_emergency_needs_two_clicks_within_three_seconds(page: Page, server: Server) -> None:
    button = page.locator("#emergency")
    button.click()
    expect(button).to_have_text("Click again to confirm")
    expect(button).to_have_text("Emergency stop", timeout=4_000)
    assert server.desk.commands == []
    button.click()
    button.click()
    expect(page.locator("#state")).to_have_text("EMERGENCY STOP")
    assert server.desk.commands == [("emergency_stop", "dashboard")]
    page.click("#clear")
    expect(page.locator("#state")).to_have_text("PAUSED")
    page.click("#resume")
    expect(page.locator("#state")).to_have_text("RUNNING")


def test_dust_is_named_and_no_open_position(page: Page, server: Server) -> None:
    expect(page.locator("#open-positions")).to_have_text("2")
    server.desk.has_dust, server.desk.state = True, "EMERGENCY_STOP"
    expect(page.locator("#open-positions")).to_have_text("1", timeout=5_000)
    expect(page.locator("#positions tr").nth(1)).to_contain_text("DUST")
    expect(page.locator("#notice")).to_have_text("Emergency stop: everything is closed, of XRP/ZAR dust is left. Clear it to go on.")


def test_market_data_shows_delays_and_who_is_being_repaired(page: Page) -> None:
    rows = page.locator("#feeds tr")
    expect(rows).to_have_count(4)
    expect(rows.nth(0)).to_contain_text("18 ms")
    expect(rows.nth(1).locator(".chip")).to_have_text("repairing")
    expect(rows.nth(1).locator(".chip")).to_have_class("chip warn")


def test_engine_down_and_socket_loss_are_shown_and_end_by_themselves(page: Page, server: Server) -> None:
    server.desk.error = TransportError("the supervisor is not running")
    expect(page.locator("#connection")).to_contain_text("the supervisor is not running")
    assert page.locator("#tiers .healthy").count() == 0
    assert page.locator("#feeds .healthy").count() == 0
    server.desk.error = None
    expect(page.locator("#connection")).to_have_text("Connected")
    server.stop()
    expect(page.locator("#connection")).to_have_text("Disconnected")
    expect(page.locator("#state")).to_have_text("unknown")
    server.start()
    expect(page.locator("#connection")).to_have_text("Connected", timeout=8_000)
    expect(page.locator("#state")).to_have_text("RUNNING")


def test_limits_breakers_and_volatility_are_shown_and_follow(page: Page, server: Server) -> None:
    expect(page.locator("#trading-state")).to_have_text("ACTIVE")
    expect(page.locator("#trips")).to_be_hidden()
    expect(page.locator("#risk-figures")).to_contain_text("2.13%")
    expect(page.locator("#limits tr").nth(1)).to_contain_text("BTC/ZAR")
    expect(page.locator("#limits tr").nth(1).locator("span")).to_have_class("warn")
    expect(page.locator("#volatility tr").nth(3)).to_contain_text("EXTREME")
    server.desk.trading_state = "HALTED"
    server.desk.trips = [{"code": "MAX_DRAWDOWN", "detail": "max drawdown exceeded: 0.155 against 0.15"}]
    expect(page.locator("#trading-state")).to_have_class("chip bad")
    expect(page.locator("#trips")).to_contain_text("MAX DRAWDOWN: max drawdown exceeded")


def test_symbols_are_added_and_removed_and_their_prices_move_under_buttons_that_stay(page: Page, server: Server) -> None:
    rows = page.locator("#symbols tr")
    expect(rows).to_have_count(4)
    expect(rows.nth(0).locator(".chip")).to_have_text("traded")
    expect(rows.nth(3).locator(".chip")).to_have_text("warming up")
    button, shown = rows.nth(1).locator("button"), rows.nth(1).locator("td").nth(2)
    before, held = shown.text_content(), button.element_handle()
    server.desk.equity += 3
    expect(shown).not_to_have_text(before or "")
    assert held is not None
    assert held.evaluate("e => e.isConnected")  # no frame took it from under the finger
    button.click()
    expect(rows.nth(1).locator(".chip")).to_have_text("closing only")
    rows.nth(1).locator("button").click()
    expect(rows.nth(1).locator(".chip")).to_have_text("traded")
    page.fill("#symbol", "BTC/ZAR")
    page.click("#symbol-add")
    expect(page.locator("#notice")).to_have_text("BTC/ZAR is traded already")
    page.fill("#symbol", "ADA/ZAR")
    page.click("#symbol-add")
    expect(page.locator("#symbol")).to_have_value("")
    names = ("remove_symbol", "ETH/ZAR"), ("add_symbol", "ETH/ZAR"), ("add_symbol", "BTC/ZAR"), ("add_symbol", "ADA/ZAR")
    assert tuple(server.desk.commands) == names
