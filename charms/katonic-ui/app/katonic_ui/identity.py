"""Who someone is, as tokens say it, and whether a token is to be believed."""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
from joserfc import jwk, jwt
from joserfc.errors import InvalidKeyIdError, JoseError

from katonic_ui.problems import IdentityAway, Refused

HEADERS = (
    "x-katonic-user",
    "x-katonic-user-id",
    "x-katonic-email",
    "x-katonic-groups",
    "x-katonic-roles",
)
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
_PLAIN = "".join(chr(it) for it in range(0x20, 0x7F) if chr(it) not in "%,")


@dataclass(frozen=True)
class Identity:
    """A person or a program that has signed in."""

    id: str
    username: str
    name: str = ""
    email: str = ""
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        """Return who it is as headers, every one of them, the unknown ones empty.

        What is not printable ASCII is percent-encoded, and so is a comma within a name.
        """
        values = (
            _plain(self.username),
            _plain(self.id),
            _plain(self.email),
            ",".join(map(_plain, self.groups)),
            ",".join(map(_plain, self.roles)),
        )
        return dict(zip(HEADERS, values, strict=True))


def identity(claims: Mapping[str, Any]) -> Identity:
    """Return whom an access token's claims speak of."""
    realm = claims.get("realm_access")
    roles = realm.get("roles") if isinstance(realm, dict) else None
    return Identity(
        id=str(claims["sub"]),
        username=str(claims.get("preferred_username") or claims["sub"]),
        name=str(claims.get("name") or ""),
        email=str(claims.get("email") or ""),
        groups=_texts(claims.get("groups")),
        roles=_texts(roles),
    )


class Keys:
    """The keys that sign an issuer's tokens, fetched anew when a token names an unknown one."""

    def __init__(self, client: httpx2.AsyncClient, url: str, issuer: str) -> None:
        self._client, self._url, self._issuer = client, url, issuer
        self._known: jwk.KeySet | None = None
        self._fetched = 0.0

    async def verify(
        self, token: str, audience: Collection[str] = (), nonce: str | None = None
    ) -> dict[str, Any]:
        """Return the claims of a token of this issuer, for one of the audience, in its time.

        Raises:
            Refused: It is not to be believed; the message says why.
            Away: The keys cannot be had.
        """
        rules: dict[str, jwt.ClaimsOption] = {
            "iss": {"essential": True, "value": self._issuer},
            "sub": {"essential": True},
            "exp": {"essential": True},
        }
        if audience:
            rules["aud"] = {"essential": True, "values": [*audience]}
        if nonce is not None:
            rules["nonce"] = {"essential": True, "value": nonce}
        try:
            claims = (await self._decode(token)).claims
            jwt.JWTClaimsRegistry(None, 5, **rules).validate(claims)
        except (JoseError, ValueError) as error:
            raise Refused(f"the token is refused: {error}") from None
        return claims

    async def _decode(self, token: str) -> jwt.Token:
        keys = await self._keys(older=600)
        try:
            return jwt.decode(token, keys, _ALGORITHMS)
        except InvalidKeyIdError:  # the issuer may have new ones; it is asked once in ten seconds
            return jwt.decode(token, await self._keys(older=10), _ALGORITHMS)

    async def _keys(self, older: float) -> jwk.KeySet:
        now = time.monotonic()
        if self._known is None or now - self._fetched > older:
            try:
                answer = await self._client.get(self._url)
                answer.raise_for_status()
                self._known, self._fetched = jwk.KeySet.import_key_set(answer.json()), now
            except (httpx2.HTTPError, ValueError, JoseError):
                if self._known is None:
                    raise IdentityAway from None
        return self._known


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, Iterable) and value else ()


def _plain(text: str) -> str:
    return quote(text, safe=_PLAIN)
