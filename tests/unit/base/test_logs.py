from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from helios.logs import JsonFormatter, get_logger, masked

SECRETS = [
    ("connect postgresql://helios:hunter2@db:5432/x", "connect postgresql://helios:***@db:5432/x"),
    ("redis://:hunter2@db", "redis://:***@db"),
    ("key sk-ant-api03-AB_c-9 used", "key sk-ant-*** used"),
    ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
    ("> X-VALR-API-KEY: 4961b7", "> X-VALR-API-KEY: ***"),
    ("{'x-valr-signature': '9d52c1', 'x': 1}", "{'x-valr-signature': '***', 'x': 1}"),
]


@pytest.mark.parametrize(("text", "wanted"), SECRETS)
def test_secrets_are_masked_and_the_rest_stays(text: str, wanted: str) -> None:
    assert masked(text) == wanted


@pytest.mark.parametrize("text", ["http://host:8080/path", "ratio 3:4 at a@b", "wss://api.valr.com/ws/trade"])
def test_other_text_is_left_alone(text: str) -> None:
    assert masked(text) == text


def line(message: str, **more: Any) -> dict[str, Any]:
    record = logging.LogRecord("helios.x", logging.WARNING, __file__, 1, message, None, more.pop("exc_info", None))
    vars(record).update(more)
    found: dict[str, Any] = json.loads(JsonFormatter().format(record))
    return found


@pytest.mark.parametrize(("text", "wanted"), SECRETS)
def test_message_extra_and_traceback_are_masked(text: str, wanted: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        entry = line(text, detail=text, exc_info=(type(error), error, error.__traceback__))
    assert (entry["message"], entry["detail"]) == (wanted, wanted)
    assert wanted in entry["exception"]
    assert text not in json.dumps(entry)


def test_a_line_says_who_and_when_and_keeps_extra_values() -> None:
    entry = line("ready", pid=7, bars={"1m": 300}, odd=Path("/x"))
    assert (entry["level"], entry["component"], entry["pid"], entry["bars"], entry["odd"]) == (
        "WARNING",
        "helios.x",
        7,
        {"1m": 300},
        "/x",
    )
    assert entry["timestamp"].endswith("+00:00")


def test_a_component_writes_one_json_object_a_line_into_its_own_file(tmp_path: Path) -> None:
    logger = get_logger("helios.test-logs:BTC/ZAR", tmp_path / "logs")
    assert get_logger("helios.test-logs:BTC/ZAR", tmp_path / "logs") is logger
    logger.info("one\ntwo")
    logger.info("three", extra={"symbol": "BTC/ZAR"})
    (file,) = (tmp_path / "logs").iterdir()
    assert [json.loads(text)["message"] for text in file.read_text().splitlines()] == ["one\ntwo", "three"]
