"""`tls-certificates` with charmlibs-interfaces-tls-certificates, which signs what we ask."""

import datetime
import sys
from pathlib import Path

import ops
import pytest
from charmlibs.interfaces.tls_certificates import (
    Certificate,
    CertificateError,
    CertificateRequestAttributes,
    CertificateRequestErrorCode,
    CertificateSigningRequest,
    PrivateKey,
    ProviderCertificate,
    ProviderCertificateError,
    TLSCertificatesProvidesV4,
)

from interfaces.tls_certificates import Asked, Issued, Provider, Requirer
from katonic import Endpoint, Plan, Reconciler

sys.path.insert(0, str(Path(__file__).parent))
import pair

YEAR = datetime.timedelta(days=365)
NAMES = ("a.example", "b.example")
REQUESTS = [
    str(
        CertificateSigningRequest.generate(
            CertificateRequestAttributes(common_name=it, sans_dns=[it]), PrivateKey.generate()
        )
    )
    for it in NAMES
]
KEY = PrivateKey.generate()
AUTHORITY = Certificate.generate_self_signed_ca(
    CertificateRequestAttributes(common_name="authority", is_ca=True), KEY, YEAR
)


class Client(ops.CharmBase):
    """Ours: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.certificates = Endpoint(self, "certificates", Provider)
        self.reconciler = Reconciler(self, self.gather, ask)

    def gather(self) -> tuple[str, Provider | None]:
        return str(self.config["wanted"]), self.certificates.one


def ask(state: tuple[str, Provider | None]) -> Plan:
    wanted = tuple(
        Asked(certificate_signing_request=REQUESTS[int(it)]) for it in state[0].split(",") if it
    )
    return Plan(asks={"certificates": Requirer(certificate_signing_requests=wanted)})


class Signer(ops.CharmBase):
    """The library's: a provider that signs all, or refuses all."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.library = TLSCertificatesProvidesV4(self, "certificates")
        for event in (self.on["certificates"].relation_changed, self.on.config_changed):
            framework.observe(event, self._on_news)

    def _on_news(self, _: ops.EventBase) -> None:
        for it in self.library.get_outstanding_certificate_requests():
            csr = it.certificate_signing_request
            if self.config["refuse"]:
                code = CertificateRequestErrorCode.DOMAIN_NOT_ALLOWED
                error = CertificateError(code=code, name=code.name, message="not yours")
                self.library.set_relation_error(
                    ProviderCertificateError(it.relation_id, csr, error)
                )
            else:
                signed = csr.sign(AUTHORITY, KEY, YEAR)
                self.library.set_relation_certificate(
                    ProviderCertificate(
                        it.relation_id, signed, csr, AUTHORITY, [signed, AUTHORITY]
                    )
                )


def client(wanted: str = "0") -> pair.Side:
    return pair.Side(Client, "requires", "certificates", "tls-certificates", wanted=wanted)


def signer(*, refuse: bool = False) -> pair.Side:
    return pair.Side(Signer, "provides", "certificates", "tls-certificates", refuse=refuse)


def given(side: pair.Side) -> Provider:
    return side.see(lambda charm: charm.certificates.one)


def test_what_we_ask_is_signed_and_we_find_it_by_our_own_text():
    both = pair.Pair(signer(), client())
    both.join()
    (found,) = given(both.requirer).certificates
    assert isinstance(found, Issued)
    assert found.certificate_signing_request.strip() == REQUESTS[0].strip()
    assert Certificate.from_string(found.ca) == AUTHORITY
    assert Certificate.from_string(found.certificate).common_name == NAMES[0]
    assert len(found.chain) == 2


def test_a_second_request_is_signed_beside_the_first_which_may_be_taken_back():
    both = pair.Pair(signer(), client())
    both.join()
    both.configure(both.requirer, wanted="0,1")
    signed = {it.certificate_signing_request.strip() for it in given(both.requirer).certificates}
    assert signed == {it.strip() for it in REQUESTS}
    both.configure(both.requirer, wanted="1")
    (left,) = given(both.requirer).certificates
    assert left.certificate_signing_request.strip() == REQUESTS[1].strip()


def test_why_a_request_is_refused_is_read_and_it_may_be_signed_after_all():
    both = pair.Pair(signer(refuse=True), client())
    both.join()
    (refused,) = given(both.requirer).request_errors
    assert refused.csr.strip() == REQUESTS[0].strip()
    assert (refused.error.name, refused.error.message) == ("DOMAIN_NOT_ALLOWED", "not yours")
    assert not given(both.requirer).certificates
    both.configure(both.provider, refuse=False)
    assert len(given(both.requirer).certificates) == 1


def test_while_nothing_is_signed_we_wait():
    side = client()
    side.hears({})
    assert given(side) is None
    assert side.status == ops.WaitingStatus("waiting for certificates data")


@pytest.mark.parametrize("databag", [{"certificates": "[{}]"}, {"certificates": '"all"'}])
def test_what_is_no_certificate_is_named(databag):
    side = client()
    side.hears(databag)
    assert isinstance(side.status, ops.BlockedStatus)
    assert side.status.message.startswith("certificates from far: certificates=")
