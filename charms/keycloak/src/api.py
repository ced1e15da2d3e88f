"""Keycloak's admin API, asked at the unit itself."""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import keycloak

from katonic import Invalid, NotYet

CLIENT = "katonic-charm"
"""The client that the charm administers Keycloak as, whatever people do to their own passwords."""

_URL = f"http://localhost:{keycloak.PORT}"
_TIMEOUT = 20


def token_of(client: str, secret: str) -> str | None:
    """Return a token of a client of the realm master, or None when Keycloak refuses it one."""
    form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
    url = f"{_URL}/realms/master/protocol/openid-connect/token"
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())  # noqa: S310
    try:
        return _open(request)["access_token"]
    except urllib.error.HTTPError as error:
        if error.code in (400, 401):
            return None
        raise _refusal(error) from error


def ask(token: str, method: str, path: str, body: Any = None) -> Any:
    """Return the answer to a question about /admin/realms/PATH; None when there is no such."""
    url = f"{_URL}/admin/realms/{path}".rstrip("/")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - localhost
    try:
        return _open(request)
    except urllib.error.HTTPError as error:
        if error.code == 404 and method == "GET":
            return None
        raise _refusal(error) from error


def _open(request: urllib.request.Request) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            return json.loads(answer.read() or "null")
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise NotYet(f"keycloak does not answer: {error}") from error


def _refusal(error: urllib.error.HTTPError) -> Exception:
    """Return what a refusal means to a user; any but those known is a bug, and itself."""
    path = urllib.parse.urlsplit(error.url or "").path
    if error.code in (401, 403):
        return Invalid(f"give client {CLIENT} of keycloak's realm master its role admin back")
    if error.code == 400:
        text = error.read().decode(errors="replace")
        return Invalid(f"keycloak refuses what it is asked of {path}: {text}")
    if error.code == 409:
        return NotYet(f"keycloak answers 409 to {path}: {error.read().decode(errors='replace')}")
    if error.code == 429 or error.code >= 500:
        return NotYet(f"keycloak answers {error.code} to {path}")
    return error
