"""As many requests as a server answers, on connections that stay."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

CONNECTIONS, SECONDS = 32, 3.0


@dataclass(frozen=True)
class Measured:
    """Requests a second, and how long they took, in milliseconds."""

    rate: float
    p50: float
    p99: float

    def __str__(self) -> str:
        return f"{self.rate:7.0f}/s  p50 {self.p50:5.1f} ms  p99 {self.p99:5.1f} ms"


class Connection(asyncio.Protocol):
    """Asks the same again and again, each as soon as the one before is answered."""

    def __init__(self, request: bytes, done: asyncio.Future[None]) -> None:
        self._request, self._until, self._done = request, 0.0, done
        self._begun, self._left, self._head = 0.0, -1, b""
        self.seconds: list[float] = []

    def connection_made(self, transport: Any) -> None:
        """Wait to be told to begin."""
        self._transport = transport

    def begin(self, until: float) -> None:
        """Ask first."""
        self._until = until
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Ask again once the answer is there."""
        if self._left < 0:
            self._head += data
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self._done.set_exception(RuntimeError(head.decode()))
                return
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            self._left = length - len(rest)
        else:
            self._left -= len(data)
        if self._left == 0:
            self.seconds.append(time.perf_counter() - self._begun)
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail, unless it is the end."""
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))

    def _ask(self) -> None:
        self._begun, self._left, self._head = time.perf_counter(), -1, b""
        if self._begun < self._until:
            self._transport.write(self._request)
        elif not self._done.done():
            self._done.set_result(None)
            self._transport.close()


async def load(
    host: str,
    port: int,
    path: str,
    headers: Mapping[str, str],
    seconds: float = SECONDS,
    tls: str = "",
) -> Measured:
    """Return what a server answers on many connections; `tls` is the name that it is asked by."""
    loop = asyncio.get_running_loop()
    said = {"Host": tls or "localhost", "Accept": "application/json", **headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {it}" for name, it in said.items())]
    request = "\r\n".join([*lines, "", ""]).encode()
    trust = None
    if tls:
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    futures, connections = [], []
    for _ in range(CONNECTIONS):
        futures.append(loop.create_future())
        connections.append(Connection(request, futures[-1]))
        it = connections[-1]
        await loop.create_connection(
            lambda it=it: it, host, port, ssl=trust, server_hostname=tls or None
        )
    begun = time.perf_counter()
    for it in connections:
        it.begin(begun + seconds)
    await asyncio.gather(*futures)
    took = time.perf_counter() - begun
    all_of_them = [it * 1000 for connection in connections for it in connection.seconds]
    cuts = quantiles(all_of_them, n=100)
    return Measured(len(all_of_them) / took, median(all_of_them), cuts[98])
