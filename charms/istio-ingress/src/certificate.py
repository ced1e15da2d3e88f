"""The gateway's certificate: what is asked of a provider, and what it signs for itself."""

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import routes

from interfaces import tls_certificates
from katonic import NotYet, Seed

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_DAY = datetime.timedelta(days=1)
_PERIOD, _LIFE = 30 * _DAY, 90 * _DAY
_BEGINNING = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(2056, 1, 1, tzinfo=datetime.UTC)
_KEY = "certificate"


@dataclass(frozen=True)
class Certificate:
    """What the gateway shows, PEM.

    Attributes:
        chain: Its certificate first, then those that lead to who is trusted.
        authority: The certificate that a client has to trust.
        own: Whether the gateway signed it for itself.
    """

    chain: str
    authority: str
    key: str
    own: bool

    @property
    def end(self) -> datetime.datetime:
        """Return when it ends."""
        return _load(self.chain).not_valid_after_utc


@dataclass(frozen=True)
class Identity:
    """Who the gateway is.

    Attributes:
        requests: What is asked of the provider of certificates.
        refused: Why that refuses, if it does.
    """

    certificate: Certificate
    requests: tuple[str, ...]
    refused: str = ""


def identity(
    seed: Seed,
    hosts: Sequence[str],
    provider: tls_certificates.Provider | None,
    leader: bool,
    now: datetime.datetime | None = None,
) -> Identity:
    """Return who the gateway is under these names; the leader renews a provider's certificate.

    Raises:
        NotYet: The leader has not made the seed yet.
    """
    if not seed.available:
        raise NotYet("waiting for the leader to make the seed")
    now = now or datetime.datetime.now(datetime.UTC)
    found = _identity(seed, hosts, provider, now)
    if leader and _is_due(found, now):
        rotate(seed)
        found = _identity(seed, hosts, provider, now)
    return found


def rotate(seed: Seed) -> None:
    """Give the gateway a new key."""
    seed.rotate(_KEY)


def _identity(
    seed: Seed,
    hosts: Sequence[str],
    provider: tls_certificates.Provider | None,
    now: datetime.datetime,
) -> Identity:
    """Return the identity of now.

    Until the provider has answered to a new key, the one before serves, if that was answered.
    """
    passwords = [seed.password(_KEY), seed.previous(_KEY)]
    keys = [_key(it) for it in passwords if it]
    requests = [_request(it, hosts) for it in keys]
    issued = provider.certificates if provider else ()
    answers = {it.certificate_signing_request.strip(): it for it in issued if not it.revoked}
    refusals = provider.request_errors if provider else ()
    refused = next((it.error for it in refusals if it.csr.strip() == requests[0]), None)
    why = f"{refused.name}: {refused.message}" if refused else ""
    for number, (key, request) in enumerate(zip(keys, requests, strict=True)):
        if answer := answers.get(request):
            chain = "\n".join(it.strip() for it in _chain(answer))
            certificate = Certificate(f"{chain}\n", answer.ca, _pem(key), own=False)
            return Identity(certificate, tuple(requests[: number + 1]), why)
    return Identity(_own(seed, keys[0], hosts, now), (requests[0],), why)


def asks(identity: Identity | None) -> tls_certificates.Requirer:
    """Return what the provider of certificates is asked for."""
    return tls_certificates.Requirer(
        certificate_signing_requests=tuple(
            tls_certificates.Asked(certificate_signing_request=it)
            for it in (identity.requests if identity else ())
        )
    )


def _is_due(identity: Identity, now: datetime.datetime) -> bool:
    """Return whether the provider's certificate has lived two thirds of its life, unrenewed."""
    if identity.certificate.own or len(identity.requests) > 1:
        return False
    it = _load(identity.certificate.chain)
    life = it.not_valid_after_utc - it.not_valid_before_utc
    return now > it.not_valid_after_utc - life / 3


def _own(
    seed: Seed, key: "EllipticCurvePrivateKey", hosts: Sequence[str], now: datetime.datetime
) -> Certificate:
    """Return a certificate of the gateway's own authority; of each month the same."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    signer = _key(seed.password("authority"))
    authority = _authority(signer)
    month = _BEGINNING + (now - _BEGINNING) // _PERIOD * _PERIOD
    builder = (
        _builder(hosts[0], key, month - _DAY, month + _LIFE)
        .issuer_name(authority.subject)
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    trusted = _pem(authority)
    return Certificate(_pem(_sign(builder, signer)) + trusted, trusted, _pem(key), own=True)


def _authority(key: "EllipticCurvePrivateKey") -> "x509.Certificate":
    from cryptography import x509

    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder("istio-ingress authority", key, _BEGINNING, _END)
        .issuer_name(_subject("istio-ingress authority"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _sign(builder, key)


def _builder(
    name: str,
    key: "EllipticCurvePrivateKey",
    begin: datetime.datetime,
    end: datetime.datetime,
) -> "x509.CertificateBuilder":
    from cryptography import x509

    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    number = hashlib.sha256(identifier.digest + f"{name} {begin}".encode()).digest()[:16]
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .public_key(public)
        .serial_number(int.from_bytes(number) >> 1)  # at most 159 bits, and positive
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(identifier, critical=False)
    )


def _request(key: "EllipticCurvePrivateKey", hosts: Sequence[str]) -> str:
    from cryptography import x509

    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(hosts[0]))
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
    )
    return _pem(_sign(builder, key)).strip()


def _sign(builder: Any, key: "EllipticCurvePrivateKey") -> Any:
    """Return what is signed; signed again it is the same, so that nothing changes for nothing."""
    from cryptography.hazmat.primitives.hashes import SHA256

    return builder.sign(key, SHA256(), ecdsa_deterministic=True)


def _key(password: str) -> "EllipticCurvePrivateKey":
    """Return the private key that a password stands for.

    Source: FIPS 186-5, A.2.1: 64 bits more than the order has, so that no key is likelier.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    curve = ec.SECP256R1()
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    digest = int.from_bytes(hashlib.shake_256(password.encode()).digest(40))
    return ec.derive_private_key(digest % (order - 1) + 1, curve)


def _subject(name: str) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _names(hosts: Sequence[str]) -> "list[x509.GeneralName]":
    import ipaddress

    from cryptography import x509

    return [
        x509.IPAddress(ipaddress.ip_address(it)) if routes.is_address(it) else x509.DNSName(it)
        for it in hosts
    ]


def _chain(answer: tls_certificates.Issued) -> list[str]:
    """Return the certificates from the gateway's on, in whichever order the provider has them."""
    rest = [it for it in answer.chain if it.strip() != answer.certificate.strip()]
    if rest and _load(answer.certificate).issuer != _load(rest[0]).subject:
        rest.reverse()
    return [answer.certificate, *rest]


def _load(pem: str) -> "x509.Certificate":
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem.encode())


def _pem(it: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    encoding = serialization.Encoding.PEM
    if hasattr(it, "private_bytes"):
        form = serialization.PrivateFormat.PKCS8
        return it.private_bytes(encoding, form, serialization.NoEncryption()).decode()
    return it.public_bytes(encoding).decode()


def shown(certificate: Certificate) -> dict[str, str]:
    """Return a certificate as the result of an action."""
    return {
        "chain": certificate.chain,
        "authority": certificate.authority,
        "signed-by": "itself" if certificate.own else "certificates",
        "ends": certificate.end.isoformat(),
    }
