from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _own_log_files() -> Iterator[None]:
    """Actors keep their log file for the life of a process; here each test has its own directory."""
    yield
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if name.startswith("helios.") and isinstance(logger, logging.Logger):
            for handler in logger.handlers[:]:
                handler.close()
                logger.removeHandler(handler)
            logger.propagate = True
