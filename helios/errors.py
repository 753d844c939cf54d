"""The error tree, by what the system does next.

HeliosError
├── RetryableError            back off and try again
│   ├── TransportError        a socket or HTTP call failed; nothing is known about its effect
│   └── StoreUnavailableError the database is away; buffer, do not send orders
├── SkipError                 leave this bar or symbol out, go on
│   ├── StaleDataError        input too old
│   ├── InsufficientHistoryError  fewer rows than the computation needs
│   ├── ModelUnavailableError no prediction can be had now
│   └── SolverError           an optimiser or fit gave no usable answer
├── RejectedError             the request is wrong; tell the caller, nothing happened
│   ├── ConfigError           bad configuration or command-line value
│   ├── DataError             a file or frame cannot be read
│   ├── ProtocolError         the venue sent something outside its documented protocol
│   └── VenueError            the venue answered with an error of its own
└── InvariantError            our own state is inconsistent: stop trading
    └── FencedError           a newer incarnation owns trading; this one must stop
"""

from __future__ import annotations


class HeliosError(Exception):
    """Base of all errors Helios raises on purpose."""


class RetryableError(HeliosError):
    """Back off and try again."""


class TransportError(RetryableError):
    """A call failed on the way; its effect at the other end is unknown."""


class StoreUnavailableError(RetryableError):
    """The database cannot be reached; buffer data and send no new order."""


class SkipError(HeliosError):
    """Leave this bar or symbol out and go on."""


class StaleDataError(SkipError):
    """The input is older than allowed."""


class InsufficientHistoryError(SkipError):
    """There are fewer rows than the computation needs."""


class ModelUnavailableError(SkipError):
    """No prediction can be had now; nobody may trade on this bar."""


class SolverError(SkipError):
    """An optimiser or a fit gave no usable answer."""


class RejectedError(HeliosError):
    """The request is wrong; nothing happened."""


class ConfigError(RejectedError):
    """A configuration key or command-line value is wrong."""


class DataError(RejectedError):
    """A file or frame cannot be read."""


class ProtocolError(RejectedError):
    """A peer sent something outside its documented protocol."""


class VenueError(RejectedError):
    """The venue answered with an error of its own.

    Parameters
    ----------
    status : int
        HTTP status.
    code : int or None
        The venue's error code, where the body had one.
    message : str
        The venue's words.
    """

    def __init__(self, status: int, code: int | None, message: str) -> None:
        super().__init__(status, code, message)  # all of them, so that it survives pickling on its way between processes
        self.status = status
        self.code = code
        self.message = message

    def __str__(self) -> str:
        code = "" if self.code is None else f" code {self.code}"
        return f"refused with status {self.status}{code}: {self.message}"


class InvariantError(HeliosError):
    """Our own state is inconsistent; stop trading and tell a person."""


class FencedError(InvariantError):
    """A newer incarnation owns trading; this one must stop at once."""
