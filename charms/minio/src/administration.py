"""Talks to a MinIO as its administrator.

MinIO's own library costs as much to import as ops and brings 18 MB of cryptography, which its
export and import of accounts do not need. The requests stay within the pod.
"""

import datetime
import hashlib
import hmac
import io
import json
import re
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from interfaces.s3 import Keys
from katonic import NotYet

_HOST = "localhost:9000"
_REGION = "us-east-1"
_ADMINISTRATION = "/minio/admin/v3"


@dataclass(frozen=True)
class Accounts:
    """What MinIO knows of its users.

    Attributes:
        policies: Each policy's document, by name, every list of words in it in order.
        users: Each user's secret, by access key.
        given: The policies of each user, separated by commas, by access key.
    """

    policies: Mapping[str, Any]
    users: Mapping[str, str]
    given: Mapping[str, str]


@dataclass(frozen=True)
class Administrator:
    """A MinIO on this host, for who has the root keys.

    Every method raises NotYet when MinIO does not answer, or does not do what it is told.
    """

    keys: Keys

    def accounts(self) -> Accounts:
        """Return all policies and users. Format: MinIO, cmd/admin-handlers-users.go, ExportIAM."""
        with zipfile.ZipFile(io.BytesIO(self._call("GET", "/export-iam"))) as archive:
            files = {name: json.loads(archive.read(name)) for name in archive.namelist()}
        given, users = files[_file("user_mappings")], files[_file("users")]
        return Accounts(
            policies={name: _ordered(it) for name, it in files[_file("policies")].items()},
            users={name: it["secretKey"] for name, it in users.items()},
            given={name: it["policy"] for name, it in given.items()},
        )

    def add(self, accounts: Accounts) -> None:
        """Make or replace these policies and users, and leave all others as they are."""
        users = {
            name: {"secretKey": it, "status": "enabled"} for name, it in accounts.users.items()
        }
        given = {name: {"version": 1, "policy": it} for name, it in accounts.given.items()}
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as files:
            files.writestr(_file("policies"), json.dumps(accounts.policies))
            files.writestr(_file("users"), json.dumps(users))
            files.writestr(_file("user_mappings"), json.dumps(given))
        self._call("PUT", "/import-iam", body=archive.getvalue())

    def remove_user(self, name: str) -> None:
        """Remove a user, with all keys that were derived from it."""
        self._call("DELETE", "/remove-user", {"accessKey": name})

    def buckets(self) -> list[str]:
        """Return the names of all buckets."""
        return re.findall("<Name>([^<]+)</Name>", self._call("GET", bucket="").decode())

    def make_bucket(self, name: str) -> None:
        """Make a bucket, all in it encrypted."""
        self._call("PUT", bucket=name)
        rule = "<ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>"
        rule = f"<Rule>{rule}</ApplyServerSideEncryptionByDefault></Rule>"
        body = f"<ServerSideEncryptionConfiguration>{rule}</ServerSideEncryptionConfiguration>"
        self._call("PUT", query={"encryption": ""}, body=body.encode(), bucket=name)

    def keeps_versions(self, bucket: str) -> bool:
        """Return whether a bucket keeps what is overwritten and deleted."""
        answer = self._call("GET", query={"versioning": ""}, bucket=bucket)
        return b"<Status>Enabled</Status>" in answer

    def keep_versions(self, bucket: str, keep: bool) -> None:
        """Have a bucket keep what is overwritten and deleted from now on, or no longer."""
        status = "Enabled" if keep else "Suspended"
        body = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>"
        self._call("PUT", query={"versioning": ""}, body=body.encode(), bucket=bucket)

    def _call(
        self,
        method: str,
        path: str = "",
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        bucket: str | None = None,
    ) -> bytes:
        path = f"{_ADMINISTRATION}{path}" if bucket is None else f"/{bucket}"
        asked = urlencode(sorted((query or {}).items()), quote_via=quote)
        request = urllib.request.Request(
            f"http://{_HOST}{path}?{asked}",
            data=body,
            method=method,
            headers=_signed(self.keys, method, path, asked, body),
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                return answer.read()
        except urllib.error.HTTPError as error:
            with error:
                code = re.search(rb'<Code>(\w+)|"Code":"(\w+)', error.read())
            reason = next(filter(None, code.groups())).decode() if code else error.reason
            raise NotYet(f"minio answers {reason} to {method} {path}") from error
        except OSError as error:
            raise NotYet(f"minio does not answer: {error}") from error


def _ordered(document: Any) -> Any:
    """Return a policy with its lists in order: to MinIO they are sets, and come in any."""
    if isinstance(document, dict):
        return {key: _ordered(it) for key, it in document.items()}
    if isinstance(document, list) and all(isinstance(it, str) for it in document):
        return sorted(document)
    return [_ordered(it) for it in document] if isinstance(document, list) else document


def _file(name: str) -> str:
    return f"iam-assets/{name}.json"


def _signed(keys: Keys, method: str, path: str, query: str, body: bytes) -> dict[str, str]:
    """Return the headers of a signed request. Source: AWS Signature Version 4."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": _HOST, "x-amz-content-sha256": digest, "x-amz-date": now}
    names = ";".join(headers)
    lines = [method, path, query, *(f"{key}:{it}" for key, it in headers.items()), "", names]
    canonical = hashlib.sha256("\n".join([*lines, digest]).encode()).hexdigest()
    scope = [now[:8], _REGION, "s3", "aws4_request"]
    key = f"AWS4{keys.secret_key}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    text = "\n".join(["AWS4-HMAC-SHA256", now, "/".join(scope), canonical])
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = "/".join([keys.access_key, *scope])
    return headers | {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, "
        f"Signature={signature}"
    }
