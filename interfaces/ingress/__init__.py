"""A URL under the platform's gateway: the `ingress` interface, version 2, of traefik-k8s."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec

from katonic import Databag

Port = Annotated[int, msgspec.Meta(ge=1, le=65534, description="1 to 65534")]


class Requirer(Databag):
    """What an application asks for.

    Attributes:
        name: The application.
        model: Its model.
        port: The port that its units listen on.
        scheme: What they speak there; http when None.
        strip_prefix: Whether they want paths without the prefix of the gateway's URL.
        redirect_https: Whether the gateway sends http to https.
    """

    wire: ClassVar[Literal["raw", "json"]] = "json"

    name: str
    model: str
    port: Port
    scheme: Literal["http", "https", "h2c"] | None = None
    strip_prefix: bool | None = None
    redirect_https: bool | None = None


class RequirerUnit(Databag):
    """Where one unit of it is: each unit publishes its own.

    Attributes:
        host: The name by which the gateway reaches the unit.
        ip: Its address, should the name not be resolved.
    """

    wire: ClassVar[Literal["raw", "json"]] = "json"
    scope: ClassVar[Literal["app", "unit"]] = "unit"

    host: str
    ip: str | None = None


class Ingress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the gateway serves the application."""

    url: str


class Provider(Databag):
    """What an application gets."""

    wire: ClassVar[Literal["raw", "json"]] = "json"

    ingress: Ingress

    @classmethod
    def complete(cls, raw: Mapping[str, str]) -> bool:
        """Return whether there is a URL; the library may also say that there is none."""
        return raw.get("ingress", "null") != "null"

    @property
    def url(self) -> str:
        """Return the URL of the application for a browser, without a slash at its end."""
        return self.ingress.url.rstrip("/")

    @property
    def path(self) -> str:
        """Return the path of the URL ("/katonic-mlflow"), empty when it is the gateway's root."""
        return urlsplit(self.url).path

    @property
    def hostname(self) -> str:
        """Return the gateway's name, which the application sees in the header Host."""
        return urlsplit(self.url).hostname or ""


EXAMPLES = [
    Requirer(name="mlflow", model="katonic", port=5000, strip_prefix=True),
    RequirerUnit(host="mlflow-0.mlflow-endpoints.katonic.svc.cluster.local"),
    Provider(ingress=Ingress(url="https://mlops.example/katonic-mlflow")),
]
