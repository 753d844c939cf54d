"""Structured JSON logs: one object a line, rotating files, no secrets."""

from __future__ import annotations

import logging
import logging.handlers
import re
from datetime import UTC, datetime
from pathlib import Path

import orjson

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET = re.compile(r"(://[^:/@\s]*:)[^@\s]+@|(sk-ant-)[\w-]+|(Bearer )\S+|((?i:X-VALR-(?:API-KEY|SIGNATURE))\W+)\w+")


def masked(text: str) -> str:
    """Hide passwords in URLs, API keys, signatures and bearer tokens."""
    return _SECRET.sub(lambda m: next(filter(None, m.groups())) + "***" + ("@" if m.group(1) else ""), text)


class JsonFormatter(logging.Formatter):
    """Timestamp, level, component, message and whatever was passed in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "component": record.name,
            "message": masked(record.getMessage()),
        }
        entry |= {k: masked(v) if isinstance(v, str) else v for k, v in vars(record).items() if k not in _PLAIN}
        if record.exc_info:
            entry["exception"] = masked(self.formatException(record.exc_info))
        return orjson.dumps(entry, default=str).decode()


def get_logger(name: str, directory: Path | None = None) -> logging.Logger:
    """Return the logger of a component, writing `<directory>/<name>.jsonl` (five files of 10 MB) where one is given."""
    logger = logging.getLogger(name)
    if directory is not None and not logger.handlers:
        directory.mkdir(parents=True, exist_ok=True)
        file_name = re.sub(r"[^\w.-]+", "_", name) + ".jsonl"
        handler = logging.handlers.RotatingFileHandler(directory / file_name, maxBytes=10_000_000, backupCount=5)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return logger
