# ruff: noqa: S106 - the passwords of EXAMPLES
"""A bucket and the key to it, by the protocol of Amazon S3: object-storage-charmlib's `s3`."""

from collections.abc import Mapping
from typing import Literal

from katonic import Databag, Secret


class Keys(Secret):
    """An access key and its secret."""

    access_key: str
    secret_key: str


class Requirer(Databag):
    """What a client asks for.

    Attributes:
        bucket: The bucket; the provider chooses one when None.
        path: Where in the bucket.
        requested_secrets: What must travel in a Juju secret and never in the open.
        version: Of the wire: 1 has the keys in a secret.
    """

    bucket: str | None = None
    path: str | None = None
    requested_secrets: tuple[str, ...] = ("access-key", "secret-key")
    version: str = "1"

    @classmethod
    def complete(cls, raw: Mapping[str, str]) -> bool:
        """Return whether it has said all that it asks for, and can take secrets."""
        return {"version", "requested-secrets"} <= raw.keys()


class Provider(Databag):
    """What a client gets.

    Attributes:
        bucket: The bucket, which may be another than was asked for.
        secret_extra: The keys; the wire has everything it does not name in the secret "extra".
        endpoint: The server's URL; Amazon's own when None.
        path: Where in the bucket.
        s3_uri_style: "path" for http://host/bucket, "host" for http://bucket.host.
        tls_ca_chain: The certificates that signed the server's, base64 or PEM, one in a string.
        version: Of the wire.
    """

    secret_extra: Keys
    bucket: str | None = None
    endpoint: str | None = None
    region: str | None = None
    path: str | None = None
    s3_uri_style: Literal["path", "host"] | None = None
    s3_api_version: str | None = None
    storage_class: str | None = None
    tls_ca_chain: tuple[str, ...] | None = None
    version: str = "1"

    @property
    def access_key(self) -> str:
        """Return the access key."""
        return self.secret_extra.access_key

    @property
    def secret_key(self) -> str:
        """Return the access key's secret."""
        return self.secret_extra.secret_key

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables, secrets among them, that all of Amazon's libraries read."""
        variables = {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": self.region,
        }
        return {name: value for name, value in variables.items() if value}


EXAMPLES = [
    Requirer(bucket="mlflow"),
    Provider(
        bucket="mlflow",
        secret_extra=Keys(access_key="relation-9", secret_key="n0-0ne-kn0ws-this-key"),
        endpoint="http://mlflow-minio.katonic.svc.cluster.local:9000",
        region="us-east-1",
        s3_uri_style="path",
    ),
]
