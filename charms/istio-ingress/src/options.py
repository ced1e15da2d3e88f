"""The charm's options."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import routes
from routes import Wish

from katonic import Config, Invalid

_Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^$|^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        description="a DNS name in lower case, an IPv4 address, or nothing",
    ),
]


class Options(Config):
    """The charm's options."""

    external_hostname: _Name
    service_type: Literal["LoadBalancer", "NodePort", "ClusterIP"]
    tls_termination: Literal["edge", "upstream"]
    routes: str
    upload_limit: Annotated[
        int, msgspec.Meta(ge=0, le=2**20, description="0 (no limit) to 1048576 MiB")
    ]
    request_timeout: Annotated[
        int, msgspec.Meta(ge=0, le=86400, description="0 (no limit) to 86400 seconds")
    ]
    access_log: bool

    @property
    def wishes(self) -> Mapping[str, Wish]:
        """Return where the user wants which application.

        Raises:
            Invalid: The option says what is not allowed.
        """
        return routes.parse(self.routes)

    @property
    def tls(self) -> bool:
        """Return whether TLS ends here."""
        return self.tls_termination == "edge"

    def check(self) -> None:
        """Raise Invalid when one option does not go with another."""
        if self.service_type != "LoadBalancer" and not self.external_hostname:
            raise Invalid(
                f"config external-hostname=: a service of type {self.service_type} has no address "
                "that browsers know; set a name"
            )
