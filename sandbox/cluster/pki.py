"""The cluster's certificates, keys and kubeconfigs."""

import base64
import datetime
import http.client
import ipaddress
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = datetime.timedelta(days=3650)


@dataclass(frozen=True)
class Identity:
    """A certificate to make: its file name, subject, and the names it serves (none: a client)."""

    file: str
    name: str
    group: str = ""
    serves: Sequence[str] = ()


@dataclass(frozen=True)
class Authority:
    """A certificate authority kept as <file>.crt and <file>.key in a folder."""

    folder: Path
    file: str

    @property
    def certificate(self) -> Path:
        """Return the file of the authority's certificate."""
        return self.folder / f"{self.file}.crt"

    @property
    def key(self) -> Path:
        """Return the file of the authority's private key."""
        return self.folder / f"{self.file}.key"

    def ensure(self) -> None:
        """Make the authority unless it is there."""
        if self.certificate.exists():
            return
        key = ec.generate_private_key(ec.SECP256R1())
        subject = distinguished(Identity(self.file, f"katonic-{self.file}"))
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        certificate = (
            draft(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        write(self.key, private_pem(key))
        write(self.certificate, certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, identity: Identity) -> None:
        """Make the identity's certificate and key beside the authority's unless they are there."""
        path = self.folder / f"{identity.file}.crt"
        if path.exists():
            return
        issuer = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        issuer_key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        builder = draft(distinguished(identity), issuer.subject, key.public_key())
        if identity.serves:
            purpose = ExtendedKeyUsageOID.SERVER_AUTH
            names = x509.SubjectAlternativeName([alternative(n) for n in identity.serves])
            builder = builder.add_extension(names, critical=False)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )
        write(self.folder / f"{identity.file}.key", private_pem(key))
        write(path, certificate.public_bytes(serialization.Encoding.PEM))

    def read(self, address: str, port: int, path: str, client: str) -> bytes | None:
        """Return what a server of the authority has at a path for one of its clients.

        None if it does not say OK within 2 s.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.certificate)
        context.load_cert_chain(self.folder / f"{client}.crt", self.folder / f"{client}.key")
        asking = http.client.HTTPSConnection(address, port, timeout=2, context=context)
        try:
            asking.request("GET", path)
            answer = asking.getresponse()
            return answer.read() if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            asking.close()

    def kubeconfig(self, identity: Identity, server: str) -> Path:
        """Return the file with which the identity reaches the server, made unless it is there."""
        path = self.folder / f"{identity.file}.kubeconfig"
        if path.exists():
            return path
        self.issue(identity)

        def encoded(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "katonic",
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": encoded(self.certificate),
                    },
                }
            ],
            "users": [
                {
                    "name": identity.name,
                    "user": {
                        "client-certificate-data": encoded(self.folder / f"{identity.file}.crt"),
                        "client-key-data": encoded(self.folder / f"{identity.file}.key"),
                    },
                }
            ],
            "contexts": [
                {"name": "katonic", "context": {"cluster": "katonic", "user": identity.name}}
            ],
            "current-context": "katonic",
        }
        write(path, json.dumps(document, indent=1).encode())
        return path


def signing_key(folder: Path, file: str) -> None:
    """Make the key pair <file>.key and <file>.pub that signs service accounts' tokens."""
    if (folder / f"{file}.pub").exists():
        return
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    write(folder / f"{file}.key", private_pem(key))
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write(folder / f"{file}.pub", public)


def distinguished(identity: Identity) -> x509.Name:
    """Return the subject in which Kubernetes reads the user (CN) and the group (O)."""
    group = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.group)]
    name = [x509.NameAttribute(NameOID.COMMON_NAME, identity.name)]
    return x509.Name((group if identity.group else []) + name)


def draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """Return an unsigned certificate that is valid from a day ago for ten years."""
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    return x509.CertificateBuilder(
        issuer, subject, key, x509.random_serial_number(), start, start + VALID
    )


def alternative(name: str) -> x509.GeneralName:
    """Return a name or address as a certificate lists it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """Return a private key as unencrypted PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def write(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.rename(path)
