"""Writes OCI images as tars, with no daemon and no registry."""

import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

MADE = 1767225600
"""The time of every file (2026-01-01, seconds): the same content makes the same layer."""

_IMAGE = "application/vnd.oci.image"


def write_layer(tree: Path, target: Path) -> str:
    """Write the upper directory of an overlay as one layer and return its sha256, in hex.

    What the overlay took away becomes the whiteouts of the OCI layer specification.
    """
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder, names, files in os.walk(tree):
            names.sort()
            for name in sorted([*names, *files]):
                _add(tar, tree, Path(folder, name))
    with target.open("rb") as layer:
        return hashlib.file_digest(layer, "sha256").hexdigest()


def write_image(
    target: Path,
    repository: str,
    version: str,
    trees: Sequence[Path],
    config: Mapping[str, object],
) -> str:
    """Write an OCI layout with one image and return its reference.

    The tag is the version and the start of the manifest's digest: other content, other reference.
    The trees are its layers, lowest first; `config` is the `config` of the image specification.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        blobs = [Path(folder, str(number)) for number in range(len(trees))]
        digests = [write_layer(tree, blob) for tree, blob in zip(trees, blobs, strict=True)]
        image = _json(
            {
                "created": "2026-01-01T00:00:00Z",
                "architecture": "amd64",
                "os": "linux",
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{it}" for it in digests]},
            }
        )
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": f"{_IMAGE}.manifest.v1+json",
                "config": _descriptor("config.v1+json", image),
                "layers": [
                    {
                        "mediaType": f"{_IMAGE}.layer.v1.tar",
                        "digest": f"sha256:{digest}",
                        "size": blob.stat().st_size,
                    }
                    for digest, blob in zip(digests, blobs, strict=True)
                ],
            }
        )
        tag = f"{version}-{hashlib.sha256(manifest).hexdigest()[:12]}"
        names = {
            "io.containerd.image.name": f"{repository}:{tag}",
            "org.opencontainers.image.ref.name": tag,
        }
        index = {"annotations": names, **_descriptor("manifest.v1+json", manifest)}
        partial = Path(folder, "image.tar")
        with tarfile.open(partial, "w") as tar:
            _add_bytes(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add_bytes(tar, "index.json", _json({"schemaVersion": 2, "manifests": [index]}))
            for blob in (image, manifest):
                _add_bytes(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
            for digest, blob in zip(digests, blobs, strict=True):
                entry = _entry(f"blobs/sha256/{digest}", blob.stat().st_size)
                with blob.open("rb") as content:
                    tar.addfile(entry, content)
        partial.rename(target)
    return f"{repository}:{tag}"


def read_reference(image: Path) -> str:
    """Return the reference of an image that `write_image` wrote."""
    with tarfile.open(image) as tar:
        index = tar.extractfile("index.json")
        assert index
        return json.load(index)["manifests"][0]["annotations"]["io.containerd.image.name"]


def _add(tar: tarfile.TarFile, tree: Path, path: Path) -> None:
    status = path.lstat()
    name = path.relative_to(tree)
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        _add_bytes(tar, str(name.with_name(f".wh.{name.name}")), b"")
    elif stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode) or path.is_symlink():
        entry = tar.gettarinfo(path, str(name))
        entry.mtime, entry.uname, entry.gname = MADE, "", ""
        if entry.isreg():
            with path.open("rb") as content:
                tar.addfile(entry, content)
        else:
            tar.addfile(entry)
        if entry.isdir() and _is_opaque(path):
            _add_bytes(tar, str(name / ".wh..wh..opq"), b"")


def _is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_entry(name, len(content)), io.BytesIO(content))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = size, MADE
    return entry


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _descriptor(kind: str, blob: bytes) -> dict[str, object]:
    digest = hashlib.sha256(blob).hexdigest()
    return {"mediaType": f"{_IMAGE}.{kind}", "digest": f"sha256:{digest}", "size": len(blob)}
