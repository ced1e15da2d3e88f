"""MinIO as its charm sees it: how it runs, and what it makes for each client."""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from administration import Accounts, Administrator

from interfaces import catalogue, ingress
from interfaces.s3 import Keys, Provider, Requirer
from katonic import FILES, Config, Container, Databag, NotYet, Seed, Service, Step

PORT, CONSOLE_PORT = 9000, 9001
_DATA = "/data/minio"
_NAME = re.compile(r"(?!minio$)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Amazon's rules but for dots, which no certificate covers; MinIO keeps its own name."""

_POLICY = "katonic."
"""A bucket's policy is called `katonic.<application>.<bucket>`, which says whose it is."""


class Options(Config):
    """The charm's options; `encryption_key` is the URI of a secret."""

    versioning: bool
    encryption_key: str | None = None


@dataclass(frozen=True)
class Secrets:
    """What the leader has made.

    Attributes:
        root: The administrator's keys.
        encryption_key: What all is encrypted with, 32 bytes in base64; it never changes.
        clients: The keys of each relation.
    """

    root: Keys
    encryption_key: str
    clients: Mapping[int, Keys]


@dataclass(frozen=True)
class Client:
    """A user made for one relation.

    Attributes:
        keys: Its name and its secret.
        bucket: The one bucket that it reaches.
        application: To whom the bucket belongs, for as long as the bucket's policy exists.
    """

    keys: Keys
    bucket: str
    application: str


def container(made: Secrets, console_url: str | None) -> Container:
    """Return what runs: MinIO, which encrypts all that it stores."""
    service = Service(
        f"minio server --certs-dir {FILES}/certs --address :{PORT}"
        f" --console-address :{CONSOLE_PORT} {_DATA}",
        environment={
            "MINIO_KMS_AUTO_ENCRYPTION": "on",
            "MINIO_UPDATE": "off",
            **({"MINIO_BROWSER_REDIRECT_URL": console_url} if console_url else {}),
        },
        secrets={
            "MINIO_ROOT_USER": made.root.access_key,
            "MINIO_ROOT_PASSWORD": made.root.secret_key,
            "MINIO_KMS_SECRET_KEY": f"katonic:{made.encryption_key}",
        },
        ready=f"http://localhost:{PORT}/minio/health/ready",
        kill_delay=30,
    )
    # Whenever a pod starts, the kubelet opens the volume to its fsGroup: it is closed again.
    directory = Step("make the data directory", ["install", "-d", "-m", "0700", _DATA])
    return Container(services={"minio": service}, steps=[directory])


def gateway(application: str, model: str, unit: int) -> list[Databag]:
    """Return what a gateway has to know to serve the console."""
    pod = f"{application}-{unit}.{application}-endpoints.{model}.svc.cluster.local"
    return [
        ingress.Requirer(name=application, model=model, port=CONSOLE_PORT, strip_prefix=True),
        ingress.RequirerUnit(host=pod),
    ]


def tiles(host: str, console_url: str | None) -> list[catalogue.Requirer]:
    """Return the console's tile on the platform's page: none while no browser finds it."""
    if console_url is None:
        return []
    return [
        catalogue.Requirer(
            name="Files",
            description="Browse buckets, upload and download what is in them.",
            url=console_url,
            icon="folder-open",
            health=f"http://{host}:{PORT}/minio/health/live",
        )
    ]


def encryption_key() -> str:
    """Return a new key for what is stored."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def made(application: str, seed: Seed, encryption_key: str, relations: Iterable[int]) -> Secrets:
    """Return the application's keys, and those of each relation, as the seed has them now."""
    root = Keys(access_key=f"{application}-root", secret_key=seed.password("root"))
    clients = {it: keys(it, seed.password("s3", it)) for it in relations}
    return Secrets(root, encryption_key, clients)


def keys(relation: int, secret: str) -> Keys:
    """Return a relation's keys: another secret is another user.

    With the old user goes what was derived from it, for MinIO lets users make further keys.
    """
    mark = hashlib.sha256(secret.encode()).hexdigest()[:8]
    return Keys(access_key=f"relation-{relation}-{mark}", secret_key=secret)


def clients(
    asked: Mapping[int, Requirer],
    applications: Mapping[int, str],
    keys: Mapping[int, Keys],
    owners: Mapping[str, str],
) -> tuple[dict[int, Client], list[str]]:
    """Return whom to serve, by relation, and why the others are refused.

    `owners` says to which application a bucket belongs; who asks first for a new one has it.
    """
    owners = dict(owners)
    served: dict[int, Client] = {}
    refusals: list[str] = []
    for relation, it in sorted(asked.items()):
        application = applications[relation]
        bucket = it.bucket or application
        if reason := _refusal(bucket, application, owners):
            refusals.append(f"{application} asks for {reason}")
            continue
        owners[bucket] = application
        served[relation] = Client(keys[relation], bucket, application)
    return served, refusals


def _refusal(bucket: str, application: str, owners: Mapping[str, str]) -> str | None:
    if not _NAME.fullmatch(bucket):
        return f"bucket={bucket}; allowed: 3 to 63 lower-case letters, digits and `-`"
    if (owner := owners.get(bucket, application)) != application:
        return f"bucket={bucket}, which is {owner or 'the server'}'s: ask for another name"
    return None


def provider(host: str, client: Client, path: str | None) -> Provider:
    """Return what a client is told."""
    return Provider(
        endpoint=f"http://{host}:{PORT}",
        bucket=client.bucket,
        path=path,
        region="us-east-1",
        s3_uri_style="path",
        secret_extra=client.keys,
    )


def owners(root: Keys) -> dict[str, str]:
    """Return to which application each bucket belongs, "" for none; {} when none can be told."""
    administrator = Administrator(root)
    try:
        return _owners(administrator.accounts().policies, administrator.buckets())
    except NotYet:
        return {}


def _owners(policies: Iterable[str], buckets: Iterable[str]) -> dict[str, str]:
    names = (it.removeprefix(_POLICY) for it in policies if it.startswith(_POLICY))
    owned = {bucket: application for application, _, bucket in (it.partition(".") for it in names)}
    return dict.fromkeys(buckets, "") | owned


def serve(root: Keys, clients: Sequence[Client], silent: Set[int], versioning: bool) -> list[str]:
    """Give each client its bucket and user; remove all other users that a relation had.

    A bucket is never removed, nor its policy: they wait for the next relation of their
    application. The users of the `silent` relations, which ask for nothing valid now, stay too.

    Raises:
        NotYet: MinIO refuses, or a bucket has just become another application's.
    """
    administrator = Administrator(root)
    buckets, there = administrator.buckets(), administrator.accounts()
    owners = _owners(there.policies, buckets)
    for it in clients:
        if owners.get(it.bucket, it.application) != it.application:
            raise NotYet(f"bucket {it.bucket} is {owners[it.bucket] or 'the server'}'s")
    changes: list[str] = []
    # First the policies, which say whose a bucket is: without one it would be nobody's for good.
    if policies := _missing({_policy(it): _document(it.bucket) for it in clients}, there.policies):
        administrator.add(Accounts(policies, {}, {}))
        changes += [f"made policy {name}" for name in policies]
    for bucket in sorted({it.bucket for it in clients}):
        if bucket not in buckets:
            administrator.make_bucket(bucket)
            changes.append(f"made bucket {bucket}")
        if administrator.keeps_versions(bucket) != versioning:
            administrator.keep_versions(bucket, versioning)
            changes.append(f"{'keep' if versioning else 'no longer keep'} versions in {bucket}")
    wanted = {it.keys.access_key: it.keys.secret_key for it in clients}
    users = _missing(wanted, there.users)
    given = _missing({it.keys.access_key: _policy(it) for it in clients}, there.given)
    if users or given:
        administrator.add(Accounts({}, users, given))
        changes += [f"made user {name}" for name in users]
        changes += [f"gave {policy} to {name}" for name, policy in given.items()]
    for name in sorted(there.users.keys() - wanted.keys()):
        relation = re.fullmatch(r"relation-(\d+)-[0-9a-f]{8}", name)
        if relation and int(relation[1]) not in silent:
            administrator.remove_user(name)
            changes.append(f"removed user {name}")
    return changes


def _missing(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    return {name: it for name, it in wanted.items() if there.get(name) != it}


def _policy(client: Client) -> str:
    return f"{_POLICY}{client.application}.{client.bucket}"


def _document(bucket: str) -> dict[str, Any]:
    """Return the policy that reaches a bucket."""
    in_bucket = [
        "s3:GetBucketLocation",
        "s3:GetBucketVersioning",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:ListBucketVersions",
    ]
    in_objects = [
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:DeleteObjectTagging",
        "s3:GetObject",
        "s3:GetObjectTagging",
        "s3:GetObjectVersion",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
        "s3:PutObjectTagging",
    ]
    name = f"arn:aws:s3:::{bucket}"
    statements = [(in_bucket, name), (in_objects, f"{name}/*")]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": [resource]}
            for actions, resource in statements
        ],
    }
