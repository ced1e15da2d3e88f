"""Passwords, tokens and keys that an application makes for itself, kept as Juju secrets."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping

import ops

from katonic.plan import Invalid

_LABEL = "seed"


def handle(charm: ops.CharmBase, uri: str | None = None, label: str | None = None) -> ops.Secret:
    """Return a Juju secret without reading it.

    `Model.get_secret` reads the tracked content first, so that a refresh costs a second call of
    the slowest hook tool there is.
    """
    return ops.Secret(charm.model._backend, id=uri, label=label)


def digest(content: Mapping[str, str]) -> str:
    """Return a short name for a secret's content, by which a change is seen without reading it."""
    text = json.dumps(dict(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def given(charm: ops.CharmBase, option: str, uri: str) -> str:
    """Return what the user's secret that an option names holds under the option's own name.

    Raises:
        Invalid: The application may not read it, or it has no such key.
    """
    try:
        return handle(charm, uri).get_content(refresh=True)[option]
    except ops.ModelError:
        name = charm.app.name
        raise Invalid(f"config {option}={uri}: run: juju grant-secret {uri} {name}") from None
    except KeyError:
        raise Invalid(f"config {option}={uri}: the secret has no key {option}") from None


class StoredSecret:
    """A secret of the application that never changes once the leader has made it."""

    def __init__(self, charm: ops.CharmBase, label: str, make: Callable[[], str]) -> None:
        self._charm = charm
        self._label = label
        self._make = make
        self._content: dict[str, str] | None = None

    @property
    def value(self) -> str | None:
        """Return the secret, or None on a follower before the leader has made it."""
        return self.read().get("value")

    def read(self) -> dict[str, str]:
        """Return all the content, read or made once a dispatch; empty while there is none."""
        if self._content is None:
            try:
                self._content = handle(self._charm, label=self._label).get_content(refresh=True)
            except ops.SecretNotFoundError:
                if not self._charm.unit.is_leader():
                    return {}
                self._content = {"value": self._make()}
                self._charm.app.add_secret(self._content, label=self._label)
        return self._content

    def write(self, content: Mapping[str, str]) -> None:
        """Replace the content, seen in this dispatch too, where Juju still gives the old one."""
        handle(self._charm, label=self._label).set_content(dict(content))
        self._content = dict(content)


class Seed:
    """The one secret from which an application derives its passwords, each rotated by itself."""

    def __init__(self, charm: ops.CharmBase) -> None:
        self._secret = StoredSecret(charm, _LABEL, lambda: secrets.token_urlsafe(32))

    @property
    def available(self) -> bool:
        """Return whether the leader has made the seed."""
        return self._secret.value is not None

    def password(self, *names: object) -> str:
        """Return the present password of these names: 32 characters, safe in a URL."""
        return self._derive(names, self._generations().get(_name(names), 0))

    def previous(self, *names: object) -> str | None:
        """Return the password before the last rotation, or None when there was none."""
        generation = self._generations().get(_name(names), 0)
        return self._derive(names, generation - 1) if generation else None

    def rotate(self, *names: object) -> None:
        """Give these names a new password; only the leader can, others get ops.ModelError."""
        generations = self._generations()
        generations[_name(names)] = generations.get(_name(names), 0) + 1
        self._secret.write({**self._secret.read(), "generations": json.dumps(generations)})

    def _generations(self) -> dict[str, int]:
        return json.loads(self._secret.read().get("generations", "{}"))

    def _derive(self, names: tuple[object, ...], generation: int) -> str:
        seed = self._secret.value
        if seed is None:
            raise RuntimeError("the seed is not there yet: ask `available` first")
        key = f"{_name(names)}#{generation}".encode()
        return base64.urlsafe_b64encode(hmac.digest(seed.encode(), key, "sha256"))[:32].decode()


def _name(names: tuple[object, ...]) -> str:
    return "/".join(map(str, names))
