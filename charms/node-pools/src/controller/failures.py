"""What goes wrong, in one line, and how long to wait then."""

import random
import re
import traceback

import httpx2
import lightkube


def code(error: BaseException) -> int:
    """Return the HTTP status with which Kubernetes refused, 0 where it did not answer."""
    if isinstance(error, lightkube.ApiError):
        return error.status.code or 0
    return error.response.status_code if isinstance(error, httpx2.HTTPStatusError) else 0


def line(error: BaseException) -> str:
    """Return an error in one line; one that nobody expects says where it came from.

    No token is in it: a header that is no header is told in full by who refuses it.
    """
    said = str(error)
    if isinstance(error, lightkube.ApiError):
        said = f"{code(error)} {error}"
    elif isinstance(error, httpx2.HTTPStatusError):
        said = f"{code(error)} {error.response.reason_phrase}"
    if isinstance(error, AttributeError | LookupError | TypeError | AssertionError):
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{error!r} in {where.name} of {where.filename}:{where.lineno}"
    said = re.sub(r"Bearer [^\s'\"]+", "Bearer ***", said)
    return " ".join(said.split()) or type(error).__name__


def delay(failures: int, longest: float = 60) -> float:
    """Return the seconds to wait after so many failures in a row, from half a second on."""
    return min(0.5 * 2 ** min(failures - 1, 7), longest) * random.uniform(0.75, 1.25)  # noqa: S311
