"""What the server is told by its environment."""

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Bucket(BaseModel):
    """Where the projects' files are.

    Attributes:
        style: "path" for http://host/bucket, "virtual" for http://bucket.host, or "auto".
        authorities: A file of the certificates that signed the server's, PEM.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(alias="KATONIC_BUCKET")
    folder: str = Field(default="", alias="KATONIC_BUCKET_FOLDER")
    style: Literal["path", "virtual", "auto"] = Field(default="auto", alias="KATONIC_BUCKET_STYLE")
    key: str = Field(alias="AWS_ACCESS_KEY_ID")
    secret: str = Field(alias="AWS_SECRET_ACCESS_KEY", repr=False)
    endpoint: str | None = Field(default=None, alias="AWS_ENDPOINT_URL")
    region: str = Field(default="us-east-1", alias="AWS_DEFAULT_REGION")
    authorities: str | None = Field(default=None, alias="AWS_CA_BUNDLE")


class Settings(BaseModel):
    """How the server is to run.

    Attributes:
        database_url: MongoDB's URI, the password in it.
        database_authorities: A file of the certificates that signed the database's, PEM.
        issuer: Whose tokens are accepted, as their claim `iss` names it.
        jwks_url: Where its public keys are.
        token_url: Where the server gets tokens for itself, as `client_id`.
        authorities: A file of the certificates that signed the issuer's, PEM.
        audience: Whom a token must be for.
        operator_token: What the charm proves itself with.
        experiments_url: MLflow; None when there is none.
        bucket: None when there is none.
        leeway: Seconds by which the issuer's clock may differ.
        upload_limit: Bytes that a file may have.
        audit_days: Days for which audit entries are kept.
        root_path: The path under which a gateway serves the API.
        port: Where the server listens; 0 for any.
    """

    model_config = ConfigDict(frozen=True)

    database_url: str = Field(repr=False)
    database: str
    issuer: str
    jwks_url: str
    token_url: str
    client_id: str
    client_secret: str = Field(repr=False)
    operator_token: str = Field(default="", repr=False)
    database_authorities: str | None = None
    authorities: str | None = None
    audience: str = "katonic-api"
    experiments_url: str | None = None
    bucket: Bucket | None = None
    workers: int = 1
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    leeway: int = 10
    upload_limit: int = 5 * 2**30
    audit_days: int = 365
    root_path: str = ""
    port: int = 8080

    @property
    def users_url(self) -> str:
        """Return where Keycloak administers the realm that the tokens are of."""
        base, _, rest = self.token_url.partition("/realms/")
        return f"{base}/admin/realms/{rest.partition('/')[0]}"


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings that an environment has as KATONIC_DATABASE_URL and so on.

    Raises:
        pydantic.ValidationError: A variable lacks or is not allowed.
    """
    said = {name: it for name, it in environment.items() if it}
    own = {
        name.removeprefix("KATONIC_").lower(): it
        for name, it in said.items()
        if name.startswith("KATONIC_")
    }
    bucket = Bucket.model_validate(said) if "KATONIC_BUCKET" in said else None
    return Settings.model_validate({**own, "bucket": bucket})
