"""Fixtures of the integration tests."""

from tests.support.pg import pg_dsn, pg_pool, pg_server

__all__ = ["pg_dsn", "pg_pool", "pg_server"]
