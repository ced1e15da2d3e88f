"""The code flow of OpenID Connect, with PKCE, against whoever signs people in."""

import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from katonic_ui.identity import Identity, Keys, identity
from katonic_ui.problems import IdentityAway, Refused
from katonic_ui.settings import OpenId

_SCOPE = "openid profile email groups"


@dataclass(frozen=True)
class Grant:
    """What a person's sign-in gave: who it is, and tokens in their name.

    Attributes:
        expires: When the access token does, in seconds since the epoch.
        id_token: What sign-out shows, to end the session of this browser and no other.
    """

    identity: Identity
    access_token: str
    refresh_token: str
    id_token: str
    expires: float


class Provider:
    """Who signs people in."""

    def __init__(
        self,
        openid: OpenId,
        url: str,
        audience: str | None,
        transport: httpx2.AsyncBaseTransport,
    ) -> None:
        self._openid, self._url, self._transport = openid, url, transport
        self._keys = Keys(
            httpx2.AsyncClient(transport=transport, timeout=5), openid.jwks_endpoint, openid.issuer
        )
        self._audience = {openid.client_id, *([audience] if audience else [])}

    @property
    def account_url(self) -> str:
        """Return where a person changes their password and the like."""
        return self._openid.account_url

    def sign_in_url(self, state: str, nonce: str, verifier: str) -> str:
        """Return where a browser goes to sign in."""
        url, _ = self._client().create_authorization_url(
            self._openid.authorization_endpoint, state=state, nonce=nonce, code_verifier=verifier
        )
        return url

    def sign_out_url(self, id_token: str) -> str:
        """Return where a browser goes to sign out, and comes back from."""
        query = {
            "id_token_hint": id_token,
            "client_id": self._openid.client_id,
            "post_logout_redirect_uri": f"{self._url}/signed-out",
        }
        return f"{self._openid.issuer}/protocol/openid-connect/logout?{urlencode(query)}"

    async def exchange(self, code: str, nonce: str, verifier: str) -> Grant:
        """Return what a code gives that came back by the browser.

        Raises:
            Refused: The code is none, or it has been used.
            Away: The provider does not answer.
        """
        client = self._client()
        token = await _asked(
            client.fetch_token(self._openid.token_endpoint, code=code, code_verifier=verifier)
        )
        await self._keys.verify(token.get("id_token", ""), {self._openid.client_id}, nonce)
        return await self._grant(token)

    async def refresh(self, grant: Grant) -> Grant:
        """Return fresh tokens for those of before.

        Raises:
            Refused: The session has ended there, or the person is locked out.
            Away: The provider does not answer.
        """
        client = self._client()
        token = await _asked(
            client.refresh_token(self._openid.token_endpoint, refresh_token=grant.refresh_token)
        )
        return await self._grant({"id_token": grant.id_token, **token})

    async def identify(self, access_token: str) -> Identity:
        """Return whose access token it is.

        Raises:
            Refused: It is not this issuer's, not for this platform, or it is over.
            Away: The provider does not answer.
        """
        return identity(await self._keys.verify(access_token, self._audience))

    async def _grant(self, token: Mapping[str, Any]) -> Grant:
        access = str(token.get("access_token", ""))
        return Grant(
            # It came from the issuer itself, so it may be for whom it likes.
            identity=identity(await self._keys.verify(access)),
            access_token=access,
            refresh_token=str(token.get("refresh_token", "")),
            id_token=str(token["id_token"]),
            expires=time.time() + float(token.get("expires_in", 60)),
        )

    def _client(self) -> AsyncOAuth2Client:
        """Return a client for one person's tokens; the connections are everyone's."""
        return AsyncOAuth2Client(
            client_id=self._openid.client_id,
            client_secret=self._openid.client_secret,
            token_endpoint_auth_method=self._openid.authentication,
            scope=_SCOPE,
            redirect_uri=f"{self._url}/session/callback",
            code_challenge_method="S256",
            transport=self._transport,
            timeout=10,
        )


async def _asked(answer: Awaitable[Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return await answer
    except OAuthError as error:
        if error.error in ("invalid_client", "unauthorized_client"):
            raise IdentityAway from error  # its secret is being changed, the new one is on its way
        raise Refused(str(error)) from None
    except (httpx2.HTTPError, ValueError) as error:
        raise IdentityAway from error
