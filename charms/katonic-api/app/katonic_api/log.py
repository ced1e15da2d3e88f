"""The log: one line for each record, on stderr."""

import logging

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_NOISY = ("httpx2", "httpcore2", "pymongo", "botocore", "aiobotocore", "asyncio", "uvicorn.error")


class Lines(logging.Formatter):
    """One line for each record, whatever is in it, but for tracebacks."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's word
        """Return the record's line."""
        return " ".join(super().formatMessage(record).split())


def log(level: str) -> None:
    """Have the log go to stderr from this level on."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=_LEVELS[level], handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(_LEVELS[level], logging.WARNING))
