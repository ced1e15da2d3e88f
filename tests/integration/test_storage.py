"""What a user stored outlives the application that stored it."""

import contextlib
import json
import os

import boto3
import jubilant
import pytest
from deployed import ROOT, Platform, charm_path, eventually, image

NAME = "vault"
MINIO = "ghcr.io/katonic/minio:2026.2.12"


def deploy(platform: Platform, storage: str | None = None, secret: str | None = None) -> None:
    platform.juju.deploy(
        charm_path(ROOT / "charms/minio"),
        NAME,
        resources={"minio-image": image("minio", MINIO)},
        constraints={"mem": "1G", "tags": "node-role.kubernetes.io/storage-node=ceph"},
        attach_storage=storage,
        config={"encryption-key": secret} if secret else None,
    )


def bucket(platform: Platform):
    keys = platform.juju.run(f"{NAME}/0", "get-root-key").results
    return boto3.client(
        "s3",
        endpoint_url=platform.url(NAME, 9000),
        aws_access_key_id=keys["access-key"],
        aws_secret_access_key=keys["secret-key"],
        region_name="us-east-1",
    )


@pytest.fixture
def detached(platform: Platform):
    """Return the storage of a MinIO that is gone, and what it was encrypted with."""
    deploy(platform)
    platform.settle(NAME)
    bucket(platform).create_bucket(Bucket="kept")
    bucket(platform).put_object(Bucket="kept", Key="word", Body=b"still here")
    key = platform.juju.run(f"{NAME}/0", "get-root-key").results["encryption-key"]
    (unit,) = platform.juju.status().apps[NAME].units
    storage = json.loads(platform.juju.cli("storage", "--format", "json"))["storage"]
    (mine,) = (it for it, about in storage.items() if unit in json.dumps(about))
    platform.juju.remove_application(NAME)
    eventually(lambda: NAME not in platform.juju.status().apps)
    yield mine, key
    with contextlib.suppress(jubilant.CLIError):
        platform.juju.remove_application(NAME, destroy_storage=True)
    eventually(lambda: NAME not in platform.juju.status().apps)


def test_a_store_is_read_by_another_application_that_is_given_its_key(platform, detached):
    storage, key = detached
    secret = platform.juju.add_secret(f"vault-key-{os.getpid()}", {"encryption-key": key})
    deploy(platform, storage, str(secret))
    blocked = f"run: juju grant-secret {secret} {NAME}"
    eventually(lambda: blocked in platform.juju.status().apps[NAME].app_status.message)
    platform.juju.grant_secret(secret, NAME)
    platform.settle(NAME)
    got = bucket(platform).get_object(Bucket="kept", Key="word")
    assert got["Body"].read() == b"still here"
    platform.juju.remove_secret(secret)
