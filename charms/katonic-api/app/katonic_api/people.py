"""People's accounts, by Keycloak's admin API."""

import time
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict

from .problems import Unavailable
from .settings import Settings

_SILENT = "Keycloak does not answer. Try again soon."
_FORBIDDEN = (
    "The platform may not look after people's accounts: Keycloak's option user-managers must name"
    " this API."
)


class Account(BaseModel):
    """An account of Keycloak's."""

    model_config = ConfigDict(frozen=True)

    id: str
    username: str
    email: str = ""
    enabled: bool = True
    firstName: str = ""  # noqa: N815 - Keycloak's word
    lastName: str = ""  # noqa: N815

    @property
    def name(self) -> str:
        """Return the person's name."""
        return f"{self.firstName} {self.lastName}".strip()


class People:
    """The accounts of the realm that the tokens are of."""

    def __init__(self, settings: Settings, client: httpx2.AsyncClient) -> None:
        self._settings, self._client = settings, client
        self._token, self._expires = "", 0.0

    async def find(self, who: str) -> Account | None:
        """Return the account with this username or e-mail address, None when there is none."""
        for key in ("username", "email"):
            found = await self._ask("GET", "/users", params={key: who, "exact": "true"})
            for it in found:
                if it.get(key, "").casefold() == who.casefold():
                    return Account.model_validate(it)
        return None

    async def enable(self, user: str, enabled: bool) -> None:
        """Let a person sign in or not; who may not is signed out of everything."""
        account = await self._ask("GET", f"/users/{user}")
        if account:
            # Keycloak takes what lacks for what is to be taken away.
            await self._ask("PUT", f"/users/{user}", json={**account, "enabled": enabled})
        if not enabled:
            await self.sign_out(user)

    async def sign_out(self, user: str) -> None:
        """End all of a person's sessions."""
        await self._ask("POST", f"/users/{user}/logout")

    async def _ask(self, method: str, path: str, **more: Any) -> Any:
        """Return what Keycloak answers; None when there is no such account, or nothing to say.

        Raises:
            Unavailable: It does not answer, or does not let us.
        """
        try:
            for again in (True, False):
                headers = {"Authorization": f"Bearer {await self._bearer()}"}
                url = f"{self._settings.users_url}{path}"
                answer = await self._client.request(
                    method, url, headers=headers, timeout=10, **more
                )
                if answer.status_code != 401 or not again:
                    break
                self._expires = 0
        except (httpx2.HTTPError, ValueError, KeyError) as error:
            raise Unavailable(_SILENT) from error
        if answer.status_code == 404:
            return None
        if answer.status_code in (401, 403):
            raise Unavailable(_FORBIDDEN)
        if answer.is_error:
            raise Unavailable(_SILENT)
        return answer.json() if answer.content else None

    async def _bearer(self) -> str:
        if time.monotonic() > self._expires:
            answer = await self._client.post(
                self._settings.token_url,
                data={"grant_type": "client_credentials"},
                auth=(self._settings.client_id, self._settings.client_secret),
                timeout=10,
            )
            answer.raise_for_status()
            said = answer.json()
            self._token = said["access_token"]
            self._expires = time.monotonic() + said.get("expires_in", 60) - 20
        return self._token
