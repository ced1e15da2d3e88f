"""The platform's API, asked in the name of a person."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from katonic_ui import metrics
from katonic_ui.problems import ApiAway, Problem, SignedOut


@dataclass
class Api:
    """What one request may ask of the API.

    Attributes:
        renew: Returns another access token when the one at hand is refused; None when there is
            none to be had.
    """

    client: httpx2.AsyncClient
    token: str
    request_id: str
    renew: Callable[[], Awaitable[str | None]]

    async def get(self, path: str, **query: object) -> Any:
        """Return what is there.

        Raises:
            Problem: The API refuses.
            ApiAway: It does not answer.
            SignedOut: It does not believe that anybody is signed in.
        """
        return (await self._send("GET", path, query)).json()

    async def read(self, path: str) -> tuple[Any, str]:
        """Return what is there and its ETag, which a change of it must name."""
        answer = await self._send("GET", path)
        return answer.json(), answer.headers.get("etag", "")

    async def send(
        self, method: str, path: str, body: object = None, **headers: str | None
    ) -> Any:
        """Change something and return what the API says of it, if anything."""
        named = {key.replace("_", "-"): it for key, it in headers.items() if it}
        answer = await self._send(method, path, body=body, headers=named)
        return answer.json() if answer.content else None

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        """Yield the answer to a request whose body, or whose answer, is too long to hold."""
        request = self.client.build_request(
            method, path, headers={**self._headers(), **headers}, content=content, timeout=_LONG
        )
        try:
            answer = await self.client.send(request, stream=True)
        except httpx2.HTTPError as error:
            raise ApiAway from error
        try:
            if answer.is_error:
                await answer.aread()
                raise _problem(answer)
            yield answer
        finally:
            await answer.aclose()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        asked = {key: it for key, it in (query or {}).items() if it not in (None, "")}
        for last in (False, True):
            try:
                answer = await self.client.request(
                    method,
                    path,
                    params=asked,  # pyright: ignore[reportArgumentType] - text, numbers, truth
                    json=body,
                    headers={**self._headers(), **(headers or {})},
                )
            except httpx2.HTTPError as error:
                metrics.API.labels("none").inc()
                raise ApiAway from error
            metrics.API.labels(str(answer.status_code)).inc()
            if answer.status_code == 401 and not last and (token := await self.renew()):
                self.token = token
                continue
            if answer.status_code == 401:
                raise SignedOut
            if answer.is_error:
                raise _problem(answer)
            return answer
        raise SignedOut

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", "x-request-id": self.request_id}


_LONG = httpx2.Timeout(10, read=300, write=300)


def _problem(answer: httpx2.Response) -> Problem:
    try:
        said = answer.json()
        return Problem(answer.status_code, str(said.get("detail") or ""), said.get("errors") or ())
    except (ValueError, AttributeError):
        return Problem(answer.status_code)
