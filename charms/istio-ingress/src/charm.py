#!/usr/bin/env python3
"""Istio ingress: one address for all applications, TLS and sign-in at the edge."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import certificate
import follower
import ops
import routes
import surroundings
import verdict
import whole
from certificate import Identity
from follower import Report
from options import Options
from routes import Application
from surroundings import Surroundings

from interfaces import forward_auth, ingress, tls_certificates
from katonic import (
    Effect,
    Endpoint,
    Invalid,
    NotYet,
    Plan,
    Reconciler,
    Seed,
    load_config,
)


@dataclass(frozen=True)
class State:
    """What the charm knows.

    Attributes:
        identity: The gateway's certificate; None while it has no host, or TLS ends before it.
        applications: Who wants a URL.
        sign_in: Who decides at the edge.
        report: What the follower says; None before it speaks.
    """

    around: Surroundings
    options: Options
    identity: Identity | None
    applications: Sequence[Application]
    sign_in: forward_auth.Provider | None
    report: Report | None


def plan(state: State) -> Plan:
    """Return what the unit wants: istiod, the gateway and its routes, and that all are told."""
    around, wishes, report = state.around, state.options.wishes, state.report
    guarded = routes.guarded(state.applications, wishes)
    wanted = Plan(
        containers={"istio-ingress": follower.container(around.site)},
        ports=[follower.PORT],
        asks={
            "certificates": certificate.asks(state.identity),
            "forward-auth": forward_auth.Requirer(ingress_app_names=guarded),
        },
    )
    if report is None:
        return wanted
    served = routes.place(state.applications, wishes, state.sign_in)
    wanted = replace(
        wanted,
        resources=whole.objects(
            around, state.options, state.identity, served.routes, state.sign_in
        ),
    )
    if lack := verdict.lack(around.host, report):
        return replace(wanted, effects=[Effect("hold what was offered", verdict.wait, [lack])])
    urls = {it.application.relation: routes.url(it, str(around.host)) for it in served.routes}
    offers = {key: ingress.Provider(ingress=ingress.Ingress(url=it)) for key, it in urls.items()}
    status = verdict.status(served, report, around, state.identity)
    return replace(wanted, offers={"ingress": offers}, status=status)


class IstioIngressCharm(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.seed = Seed(self)
        self.certificates = Endpoint(self, "certificates", tls_certificates.Provider)
        self.forward_auth = Endpoint(self, "forward-auth", forward_auth.Provider)
        self.ingress = Endpoint(self, "ingress", ingress.Requirer)
        framework.observe(self.on["get_certificate"].action, self._on_get_certificate)
        framework.observe(self.on["rotate_certificate"].action, self._on_rotate_certificate)
        self.reconciler = Reconciler(self, self.gather, plan)

    def gather(self) -> State:
        """Return what the charm knows.

        Raises:
            Invalid: An option or a relation says what is not allowed.
            NotYet: Kubernetes does not answer.
        """
        options = load_config(self, Options)
        options.check()
        report = follower.report()
        around = surroundings.look(self, options, report)
        return State(
            around=around,
            options=options,
            identity=self._identity(options, around.host),
            applications=routes.applications(self, self.ingress),
            sign_in=self.forward_auth.one,
            report=report,
        )

    def _identity(self, options: Options, host: str | None) -> Identity | None:
        if host is None or not options.tls:
            return None
        hosts = [host, *sorted({it.host for it in options.wishes.values() if it.host} - {host})]
        provider, leader = self.certificates.one, self.unit.is_leader()
        return certificate.identity(self.seed, hosts, provider, leader)

    def _on_get_certificate(self, event: ops.ActionEvent) -> None:
        try:
            identity = self.gather().identity
        except (Invalid, NotYet) as reason:
            event.fail(str(reason))
            return
        if identity is None:
            event.fail("there is none: the gateway has no address yet, or TLS ends before it")
        else:
            event.set_results(certificate.shown(identity.certificate))

    def _on_rotate_certificate(self, event: ops.ActionEvent) -> None:
        if self.unit.is_leader():
            certificate.rotate(self.seed)
            event.set_results({"rotated": "certificate"})
        else:
            event.fail(f"run it on the leader: juju run {self.app.name}/leader rotate-certificate")


if __name__ == "__main__":
    ops.main(IstioIngressCharm)
