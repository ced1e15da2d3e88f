"""A charm is read from wherever it lies."""

import zipfile
from pathlib import Path

import pytest
import yaml
from lab import PROBE

from sandbox.charm import CharmError, read_charm


def packed(folder: Path) -> Path:
    """Lay the probe out as charmcraft packs it."""
    whole = yaml.safe_load((PROBE / "charmcraft.yaml").read_text())
    files = {"config.yaml": whole.pop("config"), "actions.yaml": whole.pop("actions")}
    with zipfile.ZipFile(folder / "probe.charm", "w") as out:
        for name, content in {**files, "metadata.yaml": whole}.items():
            out.writestr(name, yaml.safe_dump(content))
    return folder / "probe.charm"


def test_a_packed_charm_says_the_same_as_its_source(tmp_path: Path) -> None:
    one, other = read_charm(PROBE), read_charm(packed(tmp_path))
    assert one.model_copy(update={"path": other.path}) == other
    assert other.path == tmp_path / "probe.charm"


def test_a_charm_says_what_it_has() -> None:
    charm = read_charm(PROBE)
    assert charm.containers["c1"].resource == "c1-image"
    assert [(m.storage, m.location) for m in charm.containers["c1"].mounts] == [("data", "/data")]
    roles = {name: end.role for name, end in charm.endpoints.items()}
    assert roles["ring"] == "peer"
    assert roles["prov"] == "provider"
    assert (roles["lim"], charm.endpoints["lim"].limit) == ("requirer", 1)
    assert charm.endpoints["req"].optional
    assert not charm.endpoints["lim"].optional
    assert charm.storage["extra"].least == 0
    assert charm.missing_images({"c2-image": "x"}) == ("c1-image",)


def test_what_is_no_charm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CharmError, match="no charm was found at"):
        read_charm(tmp_path / "nosuch.charm")
    with pytest.raises(CharmError, match="no charm was found at"):
        read_charm(tmp_path)
    (tmp_path / "x.charm").write_text("not a zip")
    with pytest.raises(CharmError, match="is not a packed charm"):
        read_charm(tmp_path / "x.charm")
    (tmp_path / "charmcraft.yaml").write_text("name: x\nrequires: {a: {}}\n")
    with pytest.raises(CharmError, match="interface"):
        read_charm(tmp_path)
