import tarfile

from sandbox.cluster import images
from sandbox.images import oci

LISTING = """REF TYPE DIGEST SIZE PLATFORMS LABELS
localhost/katonic/minio:1 application/vnd.oci sha256:aa 1.0 MiB linux/amd64 -
sha256:0f application/vnd.oci sha256:aa 1.0 MiB linux/amd64 -
"""


def test_a_tar_tells_its_image_and_digest(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("content")
    tar = tmp_path / "image.tar"
    reference = oci.write_image(tar, "localhost/katonic/try", "1", [tmp_path / "tree"], {})
    held = images.contents(tar)
    assert list(held) == [reference]
    assert held[reference].startswith(f"sha256:{reference.rpartition('-')[2]}")


def test_a_tar_that_is_no_oci_layout_tells_nothing(tmp_path):
    (tmp_path / "file").write_text("content")
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.add(tmp_path / "file", "manifest.json")
    assert images.contents(tmp_path / "other.tar") == {}


def test_a_listing_gives_the_digest_of_each_reference():
    assert images.parse_listing(LISTING) == {
        "localhost/katonic/minio:1": "sha256:aa",
        "sha256:0f": "sha256:aa",
    }


HAVE = {
    "localhost/cluster/pause:1": "sha256:pp",
    "localhost/katonic/minio:1": "sha256:aa",
    "localhost/katonic/minio:2": "sha256:bb",
    "sha256:01": "sha256:aa",
    "sha256:02": "sha256:bb",
    "sha256:03": "sha256:pp",
}


def test_pruning_takes_the_images_that_are_not_kept_and_their_bare_names():
    removed = images.superfluous(HAVE, ["localhost/katonic/minio:2"])
    assert removed == ["localhost/katonic/minio:1", "sha256:01"]


def test_pruning_leaves_what_is_not_this_projects():
    assert not {"localhost/cluster/pause:1", "sha256:03"} & set(images.superfluous(HAVE, []))


def test_an_image_with_a_name_left_keeps_its_bare_name():
    have = {**HAVE, "localhost/katonic/minio:same": "sha256:aa"}
    keep = ["localhost/katonic/minio:same", "localhost/katonic/minio:2"]
    assert images.superfluous(have, keep) == ["localhost/katonic/minio:1"]
