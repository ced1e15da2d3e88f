"""Runs in MLflow's server: the bucket, reached by the server alone.

MLflow hands out presigned URLs of any store that can make them, and its clients then go to the
bucket by themselves, where nobody outside of the cluster reaches it. This one makes none, so that
every artifact goes through the server, as `--serve-artifacts` says.
"""

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository


class ProxiedArtifactRepository(ArtifactRepository):
    """S3 without MLflow's multipart mixins, by which the server tells what clients may do."""

    def __init__(self, artifact_uri, *arguments, **options):
        super().__init__(artifact_uri, *arguments, **options)
        self._store = S3ArtifactRepository(artifact_uri, *arguments, **options)

    def log_artifact(self, local_file, artifact_path=None):
        """Store a file."""
        self._store.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir, artifact_path=None):
        """Store a folder's files."""
        self._store.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path=None):
        """Return what lies there."""
        return self._store.list_artifacts(path)

    def delete_artifacts(self, artifact_path=None):
        """Delete what lies there."""
        self._store.delete_artifacts(artifact_path)

    def _download_file(self, remote_file_path, local_path):
        self._store._download_file(remote_file_path, local_path)
