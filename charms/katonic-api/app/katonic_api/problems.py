"""Everything that can go wrong, as RFC 9457 problems."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from pymongo.errors import PyMongoError
from starlette.exceptions import HTTPException
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "5"


class Error(BaseModel):
    """What is wrong with one value of a request."""

    model_config = ConfigDict(frozen=True)

    loc: list[str | int]
    msg: str


class ProblemBody(BaseModel):
    """An error as RFC 9457 writes it."""

    model_config = ConfigDict(frozen=True)

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    errors: list[Error] | None = None


class Problem(Exception):  # noqa: N818 - an answer of HTTP, not an error of ours
    """An answer that is none of success; `detail` is a sentence for a person."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


class Unavailable(Problem):
    """Something that the answer needs does not answer now, or is not there at all."""

    def __init__(self, detail: str) -> None:
        super().__init__(503, detail, {"Retry-After": RETRY_AFTER})


def not_found(kind: str) -> Problem:
    """Return the answer about what is not there, or may not be seen."""
    return Problem(404, f"There is no such {kind}, or you may not see it.")


def declared(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of these answers."""
    schema = {"schema": {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}}
    return {
        code: {"description": HTTPStatus(code).phrase, "content": {MEDIA_TYPE: schema}}
        for code in codes
    }


def answer(
    request: Request,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Error] | None = None,
) -> Response:
    """Return the answer that tells a problem."""
    body = ProblemBody(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        errors=list(errors) if errors else None,
    )
    content = body.model_dump_json(exclude_none=True)
    return Response(content, status, dict(headers or {}), MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have the application answer every error as a problem."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(request, error.status, error.detail, error.headers)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(request, error.status_code, str(error.detail), error.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [Error(loc=list(it["loc"]), msg=it["msg"]) for it in error.errors()]
        places = ", ".join(
            dict.fromkeys(".".join(map(str, it.loc[1:] or it.loc)) for it in errors)
        )
        return answer(request, 422, f"These values are not allowed: {places}.", errors=errors)

    async def database(request: Request, error: Exception) -> Response:
        again = {"Retry-After": RETRY_AFTER}
        return answer(request, 503, "The database does not answer. Try again soon.", again)

    async def broken(request: Request, error: Exception) -> Response:
        return answer(request, 500, "Something went wrong in the server; its log says what.")

    for kind, handler in (
        (Problem, problem),
        (HTTPException, refused),
        (RequestValidationError, invalid),
        (PyMongoError, database),
        (TimeoutError, database),
        (Exception, broken),
    ):
        app.add_exception_handler(kind, handler)
