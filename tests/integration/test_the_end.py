"""The end, last in the session: applications go, data stays until it is destroyed."""

import json

from deployed import APPLICATIONS, eventually


def test_removed_applications_leave_their_data_until_storage_is_destroyed(platform):
    stored = {"files", "mlflow-minio", "postgresql"}
    platform.juju.remove_application(*sorted(APPLICATIONS))
    eventually(lambda: not APPLICATIONS & platform.juju.status().apps.keys(), timeout=180)
    storage = json.loads(platform.juju.cli("storage", "--format", "json"))["storage"]
    detached = [it for it in storage.values() if it["status"]["current"] == "detached"]
    assert len(detached) >= len(stored)
    assert "Released" in platform.kubectl("get", "persistentvolumes", "-o", "json")
    assert not platform.juju.secrets()
