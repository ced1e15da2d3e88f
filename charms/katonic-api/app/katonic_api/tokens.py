"""Whether a bearer token is good, and whose it is."""

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from joserfc import errors, jwt
from joserfc.jwk import KeySet

from .problems import Problem, Unavailable
from .settings import Settings

ALGORITHMS = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519"),
]
"""Signatures with a public key alone: no token can be made with what anyone may read."""

PLATFORM_ADMIN = "platform-admin"
"""The role of Keycloak's realm that makes a platform admin."""

_REFETCH = 5.0
"""Seconds from one fetch of the keys to the next, however many tokens name unknown ones."""

_AGE = 600.0
"""Seconds after which the keys are fetched again, so that one that was taken back is refused."""

_VERIFIED = 10_000
"""How many verified tokens are remembered."""


@dataclass(frozen=True)
class Claims:
    """What a good token says of its bearer; `expires` is in seconds of the epoch."""

    id: str
    username: str
    email: str
    name: str
    platform_admin: bool
    expires: float


class Tokens:
    """Verifies tokens of one issuer, and remembers the good ones until they expire."""

    def __init__(
        self,
        settings: Settings,
        client: httpx2.AsyncClient,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._client, self._clock = settings, client, clock
        self._keys: KeySet | None = None
        self._fetched = self._tried = -math.inf
        self._fetching = asyncio.Lock()
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()
        self._checks = jwt.JWTClaimsRegistry(
            leeway=settings.leeway,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.audience},
            exp={"essential": True},
            sub={"essential": True},
        )

    async def verify(self, token: str) -> Claims:
        """Return what a token says.

        Raises:
            Problem: 401, and why it is refused.
            Unavailable: The issuer's keys are not known, and it does not answer.
        """
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known and known.expires + self._settings.leeway > time.time():
            return known
        claims = await self._decode(token)
        self._verified[digest] = claims
        if len(self._verified) > _VERIFIED:
            self._verified.popitem(last=False)
        return claims

    async def _decode(self, token: str) -> Claims:
        await self._fetch(_AGE)
        try:
            try:
                said = self._open(token)
            except _UnknownKeyError:
                await self._fetch(_REFETCH)
                said = self._open(token)
            self._checks.validate(said)
            if said.get("typ", "Bearer") != "Bearer":
                raise refused("This is no access token.")
            return _claims(said)
        except _UnknownKeyError:
            raise refused(
                "The token is signed with a key that its issuer does not have."
            ) from None
        except errors.ExpiredTokenError:
            raise refused("The token has expired.") from None
        except errors.InvalidClaimError as error:
            raise refused(f"The token's claim {error.claim} is not what it must be.") from None
        except errors.MissingClaimError as error:
            raise refused(f"The token has no claim {error.claim}.") from None
        except (errors.JoseError, ValueError, TypeError, KeyError, AttributeError):
            raise refused("The token is none, or not signed by the issuer.") from None

    def _open(self, token: str) -> dict[str, Any]:
        return jwt.decode(token, self._key, algorithms=ALGORITHMS).claims

    def _key(self, signed: Any) -> Any:
        identifier = signed.headers().get("kid")
        assert self._keys is not None
        for it in self._keys.keys:
            if it.kid == identifier and it.get("use", "sig") == "sig":
                return it
        raise _UnknownKeyError

    async def _fetch(self, age: float) -> None:
        """Fetch the issuer's keys, if those at hand are as old and it was not just tried."""
        async with self._fetching:
            clock = self._clock()
            if clock - self._fetched < age or clock - self._tried < _REFETCH:
                if self._keys is None:
                    raise Unavailable("Sign-in does not answer. Try again soon.")
                return
            self._tried = clock
            try:
                answer = await self._client.get(self._settings.jwks_url, timeout=5)
                answer.raise_for_status()
                self._keys = KeySet.import_key_set(answer.json())
                self._fetched = clock
            except (httpx2.HTTPError, ValueError, errors.JoseError) as error:
                if self._keys is None:
                    raise Unavailable("Sign-in does not answer. Try again soon.") from error


class _UnknownKeyError(Exception):
    """A token names a key that is not among those at hand."""


def refused(detail: str) -> Problem:
    """Return the answer to a token that is not good."""
    challenge = f'Bearer error="invalid_token", error_description="{detail}"'
    return Problem(401, detail, {"WWW-Authenticate": challenge})


def _claims(said: Mapping[str, Any]) -> Claims:
    roles = said.get("realm_access", {}).get("roles", [])
    subject = str(said["sub"])
    return Claims(
        id=subject,
        username=str(said.get("preferred_username") or subject),
        email=str(said.get("email") or ""),
        name=str(said.get("name") or ""),
        platform_admin=PLATFORM_ADMIN in roles,
        expires=float(said["exp"]),
    )
