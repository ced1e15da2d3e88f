"""Where the platform's API answers, and whom its tokens are to be for: our own."""

from katonic import Databag


class Requirer(Databag):
    """Who wants to use it: it has nothing to say, as everyone is told the same."""


class Provider(Databag):
    """Where it is.

    Attributes:
        url: By which pods reach it, without a slash at its end.
        audience: What a token's claim `aud` must name.
    """

    url: str
    audience: str


EXAMPLES = [
    Requirer(),
    Provider(url="http://katonic-api.katonic.svc.cluster.local:8080", audience="katonic-api"),
]
