"""Watches, beside istiod, what its gateways make of the configuration that they get."""

import hashlib
import json
import logging
import threading
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from watcher.serve import Answer, Answers

log = logging.getLogger(__name__)

# Istiod answers these to its own pod alone, whoever else asks needs a certificate of the mesh.
SYNCHRONIZATION = "http://127.0.0.1:8080/debug/syncz"
METRICS = "http://127.0.0.1:15014/metrics"
_PAUSE = 1.0
"""Seconds from one look to the next."""


def state(proxies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return which gateways there are and what they refuse, of istiod's own account."""
    gateways, refusals = [], []
    for it in sorted(proxies, key=lambda it: it["proxy"]):
        name = it["proxy"].partition(".")[0]
        gateways.append(name)
        for kind, resource in sorted((it.get("resources") or {}).items()):
            if error := resource.get("lastError"):
                kind = kind.rpartition(".")[2]
                refusals.append({"gateway": name, "kind": kind, "message": _line(error)})
    said = {"gateways": gateways, "refusals": refusals}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    return {**said, "digest": digest}


def metrics(known: Mapping[str, Any]) -> str:
    """Return what is known as metrics of Prometheus."""
    lines = [
        "# HELP istio_ingress_gateways Gateways that are connected to istiod.",
        "# TYPE istio_ingress_gateways gauge",
        f"istio_ingress_gateways {len(known['gateways'])}",
        "# HELP istio_ingress_refusals Configuration that a gateway refuses, and serves without.",
        "# TYPE istio_ingress_refusals gauge",
    ]
    lines += [
        f'istio_ingress_refusals{{gateway="{it["gateway"]}",kind="{it["kind"]}"}} 1'
        for it in known["refusals"]
    ]
    return "\n".join([*lines, ""])


def _line(text: str) -> str:
    return " ".join(text.split())


def ask(url: str, timeout: float = 5) -> str:
    """Return what a URL answers.

    Raises:
        OSError: It does not answer, or not with 200.
    """
    with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310
        return answer.read().decode()


class Watcher:
    """Looks at istiod, and tells who waits for news.

    /state       what it saw last; with after=DIGEST and wait=SECONDS, when that is another
    /metrics     istiod's own, and what is seen here
    /health      whether istiod answers
    """

    def __init__(self, istiod: str = SYNCHRONIZATION) -> None:
        self._istiod = istiod
        self._seen: dict[str, Any] = {}
        self._news, self._pause = threading.Condition(), threading.Event()

    @property
    def jobs(self) -> list[Callable[[], None]]:
        """Return what runs for ever."""
        return [self._watch]

    @property
    def answers(self) -> Answers:
        """Return what it answers, by path."""
        return {"/state": self.state, "/metrics": self.metrics, "/health": self.health}

    def state(self, words: Mapping[str, str]) -> Answer:
        """Answer with what was seen last, after a while if that is known already."""
        after, wait = words.get("after", ""), min(float(words.get("wait", "0")), 60)
        with self._news:
            self._news.wait_for(lambda: self._seen.get("digest", "") != after, wait)
            return (200, self._seen) if self._seen else (503, "istiod does not answer\n")

    def metrics(self, _: Mapping[str, str]) -> Answer:
        """Answer with istiod's metrics and those of what is seen here."""
        try:
            said = ask(METRICS)
        except OSError as error:
            return 503, f"istiod does not answer: {error}\n"
        return 200, said + (metrics(self._seen) if self._seen else "")

    def health(self, _: Mapping[str, str]) -> Answer:
        """Answer whether istiod answers."""
        return (200, "ok\n") if self._seen else (503, "istiod does not answer\n")

    def _watch(self) -> None:
        while True:
            try:
                self._see(state(json.loads(ask(self._istiod)) or []))
            # Whoever answers with something else there is not istiod.
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                if self._seen:
                    log.warning("istiod does not answer: %s", error)
                self._see({})
            self._pause.wait(_PAUSE)

    def _see(self, seen: dict[str, Any]) -> None:
        with self._news:
            if seen != self._seen:
                self._seen = seen
                self._news.notify_all()
