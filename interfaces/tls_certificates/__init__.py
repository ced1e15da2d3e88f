"""A certificate from who signs them: `tls-certificates`, version 1."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import msgspec

from katonic import Databag


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request for a certificate, PEM; `ca` when it is to sign others itself."""

    certificate_signing_request: str
    ca: bool = False


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request, all of it PEM.

    Attributes:
        ca: The certificate that signed it.
        chain: Those from it on, up to one that is trusted; in either order.
        revoked: Whether it is not to be used any more.
    """

    ca: str
    certificate_signing_request: str
    certificate: str
    chain: tuple[str, ...] = ()
    revoked: bool | None = None


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was refused: a code, its name ("DOMAIN_NOT_ALLOWED"), and a sentence."""

    code: int
    name: str
    message: str


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was refused."""

    csr: str
    error: Reason


class Requirer(Databag, rename="lower"):
    """What an application wants signed, once for all its units."""

    wire: ClassVar[Literal["raw", "json"]] = "json"

    certificate_signing_requests: tuple[Asked, ...] = ()


class Provider(Databag, rename="lower"):
    """What was signed; of every requirer's, so that each looks for its own requests."""

    wire: ClassVar[Literal["raw", "json"]] = "json"

    certificates: tuple[Issued, ...] = ()
    request_errors: tuple[Refused, ...] = ()

    @classmethod
    def complete(cls, raw: Mapping[str, str]) -> bool:
        """Return whether it has answered to anybody."""
        return not raw.keys().isdisjoint(("certificates", "request_errors"))


def _pem(kind: str) -> str:
    return f"-----BEGIN {kind}-----\nMIIBIjANBgkqhkiG9w0B\n-----END {kind}-----\n"


EXAMPLES = [
    Requirer(
        certificate_signing_requests=(
            Asked(certificate_signing_request=_pem("CERTIFICATE REQUEST")),
        )
    ),
    Provider(
        certificates=(
            Issued(
                ca=_pem("CERTIFICATE"),
                certificate_signing_request=_pem("CERTIFICATE REQUEST"),
                certificate=_pem("CERTIFICATE"),
                chain=(_pem("CERTIFICATE"),),
            ),
        )
    ),
]
