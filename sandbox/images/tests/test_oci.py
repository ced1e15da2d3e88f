import hashlib
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from sandbox.images import oci


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a small tree: a folder, a program, two names of one file, a link."""
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/program").write_text("#!/bin/sh\n")
    (tree / "bin/program").chmod(0o755)
    (tree / "bin/other").hardlink_to(tree / "bin/program")
    (tree / "link").symlink_to("bin/program")
    return tree


def names(layer: Path) -> list[str]:
    with tarfile.open(layer) as tar:
        return tar.getnames()


def test_the_same_content_makes_the_same_layer_whenever_it_was_written(
    tree: Path, tmp_path: Path
) -> None:
    before = oci.write_layer(tree, tmp_path / "before.tar")
    os.utime(tree / "bin/program", (1, 1))
    after = oci.write_layer(tree, tmp_path / "after.tar")

    assert before == after
    assert (tmp_path / "before.tar").read_bytes() == (tmp_path / "after.tar").read_bytes()


def test_another_mode_makes_another_layer(tree: Path, tmp_path: Path) -> None:
    before = oci.write_layer(tree, tmp_path / "before.tar")
    (tree / "bin/program").chmod(0o700)

    assert oci.write_layer(tree, tmp_path / "after.tar") != before


def test_a_layer_holds_the_tree_as_it_was(tree: Path, tmp_path: Path) -> None:
    oci.write_layer(tree, tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as tar:
        # Debian 12's Python has no argument for it, and newer ones warn without it.
        tar.extraction_filter = lambda member, path: member
        tar.extractall(tmp_path / "copy")

    copy = tmp_path / "copy"
    assert (copy / "link").readlink() == Path("bin/program")
    assert (copy / "bin/other").samefile(copy / "bin/program")
    assert stat.S_IMODE((copy / "bin/program").stat().st_mode) == 0o755


def test_what_an_overlay_took_away_is_a_whiteout(tree: Path, tmp_path: Path) -> None:
    os.mknod(tree / "bin/gone", stat.S_IFCHR, os.makedev(0, 0))
    oci.write_layer(tree, tmp_path / "layer.tar")

    assert "bin/.wh.gone" in names(tmp_path / "layer.tar")
    assert "bin/gone" not in names(tmp_path / "layer.tar")


@pytest.mark.skipif(os.geteuid() != 0, reason="trusted attributes are root's")
def test_a_folder_that_an_overlay_replaced_is_opaque(tree: Path, tmp_path: Path) -> None:
    os.setxattr(tree / "bin", "trusted.overlay.opaque", b"y")
    oci.write_layer(tree, tmp_path / "layer.tar")

    assert names(tmp_path / "layer.tar").index("bin/.wh..wh..opq") > 0


def test_an_image_is_an_oci_layout_whose_blobs_are_what_their_names_say(
    tree: Path, tmp_path: Path
) -> None:
    target = tmp_path / "image.tar"
    reference = oci.write_image(target, "localhost/x", "1", [tree, tree], {"User": "7:7"})

    with tarfile.open(target) as tar:
        content = {it.name: tar.extractfile(it).read() for it in tar}  # type: ignore[union-attr]
    blobs = {name: it for name, it in content.items() if name.startswith("blobs/")}
    assert all(hashlib.sha256(it).hexdigest() == Path(name).name for name, it in blobs.items())
    (entry,) = json.loads(content["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == reference
    manifest = json.loads(blobs[f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}"])
    described = [manifest["config"], *manifest["layers"]]
    for it in described:
        blob = blobs[f"blobs/sha256/{it['digest'].removeprefix('sha256:')}"]
        assert len(blob) == it["size"]
    config = json.loads(blobs[f"blobs/sha256/{manifest['config']['digest'][7:]}"])
    assert config["config"] == {"User": "7:7"}
    assert config["rootfs"]["diff_ids"] == [it["digest"] for it in manifest["layers"]]


def test_an_image_with_other_content_has_another_reference(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "image.tar"
    before = oci.write_image(target, "localhost/x", "1", [tree], {})
    again = oci.write_image(target, "localhost/x", "1", [tree], {})
    (tree / "bin/program").write_text("#!/bin/bash\n")
    after = oci.write_image(target, "localhost/x", "1", [tree], {})

    assert before == again != after
    assert oci.read_reference(target) == after


def test_nothing_is_left_beside_an_image(tree: Path, tmp_path: Path) -> None:
    oci.write_image(tmp_path / "image.tar", "localhost/x", "1", [tree], {})

    assert {it.name for it in tmp_path.iterdir()} == {"tree", "image.tar"}
