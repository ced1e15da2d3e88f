"""A charm's source folder is packed as charmcraft packs it, and kept by its content."""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml

from sandbox import archive
from sandbox.charm import read_charm


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A charm without dependencies, and a cache of the test's own."""
    monkeypatch.setenv("KATONIC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "plain"
    (folder / "src").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "tests/test_it.py").write_text("")
    (folder / "src/charm.py").write_text("import sys\nprint(sys.path[0])\n")
    about = {
        "name": "plain",
        "type": "charm",
        "charm-user": "non-root",
        "config": {"options": {"word": {"type": "string"}}},
        "actions": {"act": {"description": "acts"}},
        "parts": {"plain": {"plugin": "uv"}},
    }
    (folder / "charmcraft.yaml").write_text(yaml.safe_dump(about))
    return folder


def test_a_source_folder_becomes_a_packed_charm(folder: Path, tmp_path: Path) -> None:
    packed = archive.packed(folder, print)
    charm = read_charm(packed)
    assert (charm.name, charm.charm_user) == ("plain", "non-root")
    assert (list(charm.options), list(charm.actions)) == (["word"], ["act"])
    with zipfile.ZipFile(packed) as found:
        assert not [name for name in found.namelist() if "tests" in name]
        assert "parts" not in yaml.safe_load(found.read("metadata.yaml"))
        found.extractall(tmp_path / "out")
        mode = found.getinfo("dispatch").external_attr >> 16
    assert mode & 0o111
    os.chmod(tmp_path / "out/dispatch", 0o755)
    ran = subprocess.run(
        [tmp_path / "out/dispatch"], cwd=tmp_path / "out", capture_output=True, text=True
    )
    assert ran.stdout.strip() == str(tmp_path / "out/src")


def test_the_same_content_is_packed_once_and_another_again(folder: Path) -> None:
    said: list[str] = []
    first = archive.packed(folder, said.append)
    assert archive.packed(folder, said.append) == first
    (folder / "tests/test_it.py").write_text("assert True\n")
    assert archive.packed(folder, said.append) == first
    assert len(said) == 1
    (folder / "src/charm.py").write_text("print('other')\n")
    assert archive.packed(folder, said.append) != first


def test_a_packed_charm_of_another_python_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.charm"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("metadata.yaml", "name: other\n")
        packed.writestr(
            "venv/lib/python3.12/site-packages/x/_c.cpython-312-x86_64-linux-gnu.so", ""
        )
    with pytest.raises(archive.ArchiveError, match=r"of Python 3\.12, the sandbox's charm image"):
        archive.packed(path, print)


def test_a_folder_without_a_charm_is_named(tmp_path: Path) -> None:
    with pytest.raises(archive.ArchiveError, match=r"has no charmcraft\.yaml"):
        archive.packed(tmp_path, print)
