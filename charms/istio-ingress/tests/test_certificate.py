"""The certificate that the gateway shows: who signs it, and what becomes of it."""

import dataclasses
import datetime
import importlib.util
import itertools
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from ops import testing

from interfaces.tls_certificates import Issued, Provider, Reason, Refused
from tests import kubernetes_in_memory

_spec = importlib.util.spec_from_file_location("own", Path(__file__).with_name("own.py"))
assert _spec
assert _spec.loader
own = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(own)
its = own.modules()
certificate, charm, world = its["certificate"], its["charm"], its["world"]

HOSTS = ["mlops.example", "other.example"]
NOW = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


class Seed:
    """What is remembered of passwords: how often each was rotated."""

    def __init__(self, available: bool = True) -> None:
        self.available = available
        self.generations: dict[str, int] = {}

    def password(self, name: str) -> str:
        return f"{name}-{self.generations.get(name, 0)}"

    def previous(self, name: str) -> str | None:
        generation = self.generations.get(name, 0)
        return f"{name}-{generation - 1}" if generation else None

    def rotate(self, name: str) -> None:
        self.generations[name] = self.generations.get(name, 0) + 1


class Signer:
    """Somebody who signs certificates, by one that another has signed."""

    def __init__(self) -> None:
        self.keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        self.root = self._sign("root", "root", self.keys[0].public_key(), self.keys[0], ca=True)
        self.middle = self._sign(
            "middle", "root", self.keys[1].public_key(), self.keys[0], ca=True
        )

    def _sign(self, name: str, issuer: str, public: Any, key: Any, **more: Any) -> Any:
        begin = more.get("begin", NOW - DAY)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + 90 * DAY)
            .add_extension(x509.BasicConstraints(ca=more.get("ca", False), path_length=None), True)
        )
        for it in more.get("extensions", ()):
            builder = builder.add_extension(it.value, it.critical)
        return builder.sign(key, hashes.SHA256())

    def sign(self, request: str, begin: datetime.datetime = NOW - DAY) -> Issued:
        asked = x509.load_pem_x509_csr(request.encode())
        assert asked.is_signature_valid
        signed = self._sign(
            "leaf",
            "middle",
            asked.public_key(),
            self.keys[1],
            begin=begin,
            extensions=asked.extensions,
        )
        return Issued(
            ca=text(self.middle),
            certificate_signing_request=f"{request}\n",
            certificate=text(signed),
            chain=(text(signed), text(self.middle), text(self.root)),
        )


def text(it: x509.Certificate) -> str:
    return it.public_bytes(serialization.Encoding.PEM).decode()


def answering(*issued: Issued) -> Provider:
    return Provider(certificates=issued)


def identity(
    seed: Seed, provider: Provider | None = None, hosts: Any = HOSTS, leader: bool = True
) -> Any:
    return certificate.identity(seed, hosts, provider, leader, NOW)


def public_key(pem: str) -> bytes:
    """Return the public half of a certificate or of a private key."""
    if "PRIVATE" in pem:
        loaded: Any = serialization.load_pem_private_key(pem.encode(), None)
    else:
        loaded = x509.load_pem_x509_certificate(pem.encode())
    it = loaded.public_key()
    return it.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize("name", HOSTS)
def test_who_trusts_its_authority_trusts_it_under_each_of_its_names(name):
    shown = identity(Seed()).certificate
    leaf, *rest = x509.load_pem_x509_certificates(shown.chain.encode())
    trusted = verification.Store(x509.load_pem_x509_certificates(shown.authority.encode()))
    builder = verification.PolicyBuilder().store(trusted).time(NOW)
    chain = builder.build_server_verifier(x509.DNSName(name)).verify(leaf, rest)
    assert len(chain) == 2
    with pytest.raises(verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("stranger.example")).verify(leaf, rest)


def test_its_key_is_that_of_its_certificate():
    shown = identity(Seed()).certificate
    assert public_key(shown.key) == public_key(shown.chain)


def test_an_address_stands_in_it_as_an_address():
    shown = identity(Seed(), hosts=["192.0.2.1"]).certificate
    leaf = x509.load_pem_x509_certificate(shown.chain.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(it) for it in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]


def test_made_again_it_is_the_same_for_a_month_and_its_authority_for_ever():
    seed = Seed()
    first = certificate.identity(seed, HOSTS, None, True, NOW).certificate
    assert certificate.identity(seed, HOSTS, None, True, NOW).certificate == first
    later = certificate.identity(seed, HOSTS, None, True, NOW + 31 * DAY).certificate
    assert later.chain != first.chain
    assert later.authority == first.authority


def test_it_never_ends_within_two_months():
    for days in range(0, 400, 7):
        now = NOW + days * DAY
        shown = certificate.identity(Seed(), HOSTS, None, True, now).certificate
        assert shown.end > now + 59 * DAY


def test_rotated_it_has_another_key_and_the_same_authority():
    seed = Seed()
    before = identity(seed).certificate
    certificate.rotate(seed)
    after = identity(seed).certificate
    assert public_key(after.key) != public_key(before.key)
    assert after.authority == before.authority


def test_what_a_provider_signs_is_shown_down_to_who_is_trusted():
    seed, signer = Seed(), Signer()
    (request,) = identity(seed).requests
    found = identity(seed, answering(signer.sign(request)))
    chain = x509.load_pem_x509_certificates(found.certificate.chain.encode())
    for it, above in itertools.pairwise(chain):
        it.verify_directly_issued_by(above)
    assert chain[-1] == signer.root
    assert public_key(found.certificate.key) == public_key(found.certificate.chain)
    assert not found.certificate.own


def test_a_chain_may_come_in_either_order():
    seed, signer = Seed(), Signer()
    (request,) = identity(seed).requests
    signed = signer.sign(request)
    fields = {it: getattr(signed, it) for it in signed.__struct_fields__}
    turned = Issued(**{**fields, "chain": signed.chain[::-1]})
    assert identity(seed, answering(turned)) == identity(seed, answering(signed))


def test_what_was_signed_for_others_or_taken_back_is_not_shown():
    seed, signer = Seed(), Signer()
    (request,) = identity(seed).requests
    signed = signer.sign(request)
    fields = {it: getattr(signed, it) for it in signed.__struct_fields__}
    assert identity(seed, answering(Issued(**{**fields, "revoked": True}))).certificate.own
    assert identity(Seed(), answering(signed), hosts=["new.example"]).certificate.own


def test_the_old_one_serves_until_the_provider_has_signed_the_new():
    seed, signer = Seed(), Signer()
    (first,) = identity(seed).requests
    old = signer.sign(first)
    certificate.rotate(seed)
    meanwhile = identity(seed, answering(old))
    assert meanwhile.certificate.chain.startswith(old.certificate.strip())
    second = next(it for it in meanwhile.requests if it != first)
    assert set(meanwhile.requests) == {first, second}
    new = signer.sign(second)
    after = identity(seed, answering(old, new))
    assert after.certificate.chain.startswith(new.certificate.strip())
    assert after.requests == (second,)


def test_the_leader_has_it_signed_anew_before_it_ends_and_asks_once():
    seed, signer = Seed(), Signer()
    (request,) = identity(seed).requests
    old = answering(signer.sign(request, begin=NOW - 70 * DAY))
    assert identity(seed, old, leader=False).requests == (request,)
    assert len(identity(seed, old).requests) == 2
    assert len(identity(seed, old).requests) == 2
    assert seed.generations == {"certificate": 1}


def test_why_a_provider_does_not_sign_is_known():
    seed = Seed()
    (request,) = identity(seed).requests
    reason = Reason(code=102, name="DOMAIN_NOT_ALLOWED", message="mlops.example is not yours")
    provider = Provider(certificates=(), request_errors=(Refused(csr=request, error=reason),))
    found = identity(seed, provider)
    assert found.refused == "DOMAIN_NOT_ALLOWED: mlops.example is not yours"
    assert found.certificate.own


@pytest.fixture
def ctx() -> testing.Context:
    metadata = own.metadata()
    parts = {key: metadata.pop(key) for key in ("config", "actions")}
    return testing.Context(charm.IstioIngressCharm, meta=metadata, **parts)


@pytest.fixture
def state(tmp_path: Path) -> testing.State:
    resources = set()
    for name in ("pilot", "proxy"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"registrypath: registry.example/{name}:1\n")
        resources.add(testing.Resource(name=f"{name}-image", path=path))
    return testing.State(
        leader=True,
        planned_units=1,
        config=world.OPTIONS,
        model=testing.Model("lab", type="kubernetes"),
        resources=resources,
        relations={testing.PeerRelation("peers")},
        containers={testing.Container("istio-ingress", can_connect=True)},
    )


@pytest.fixture(autouse=True)
def cluster():
    cluster = kubernetes_in_memory.Cluster()
    cluster.deployed("lab", "istio-ingress", {"istio-ingress": "registry.example/it:1"}, units=1)
    with kubernetes_in_memory.serve(cluster), world.serve():
        yield cluster


def test_its_user_sees_the_chain_and_whom_to_trust(ctx, state):
    ctx.run(ctx.on.action("get-certificate"), state)
    said = ctx.action_results
    assert said
    assert said["chain"].endswith(said["authority"])
    assert said["signed-by"] == "itself"
    assert "PRIVATE" not in str(said)


def test_its_user_rotates_it_and_it_is_applied_at_once(ctx, state, cluster):
    before = ctx.run(ctx.on.config_changed(), state)
    first = cluster.find("Secret", "istio-ingress-own-certificate")["data"]
    ctx.run(ctx.on.action("rotate-certificate"), before)
    assert cluster.find("Secret", "istio-ingress-own-certificate")["data"] != first


def test_only_the_leader_rotates(ctx, state):
    follower = dataclasses.replace(state, leader=False)
    with pytest.raises(testing.ActionFailed, match="run it on the leader"):
        ctx.run(ctx.on.action("rotate-certificate"), follower)


def test_where_tls_ends_before_it_there_is_none(ctx, state):
    upstream = dataclasses.replace(state, config={**world.OPTIONS, "tls-termination": "upstream"})
    with pytest.raises(testing.ActionFailed, match="TLS ends before it"):
        ctx.run(ctx.on.action("get-certificate"), upstream)
