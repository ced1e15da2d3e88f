"""Makes a packed charm of a charm's source folder, with the dependencies that packing gives it.

The result is laid out as charmcraft lays one out; it is kept by the content of what it is made of.
Deploying from source is the sandbox's own convenience: Juju takes packed charms alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.11"
"""The Python of the charm-base image."""
HOW = ("--python-version", PYTHON)
LEFT_OUT = {"tests", "__pycache__", ".venv", ".tox", ".pytest_cache", ".ruff_cache"}
DISPATCH = f"""\
#!/bin/sh
PYTHONPATH=lib:src:venv/lib/python{PYTHON}/site-packages exec python3 src/charm.py
"""


class ArchiveError(Exception):
    """A charm cannot be packed, or does not fit the base image; the text says why."""


def packed(path: Path, progress: Callable[[str], None]) -> Path:
    """Return a packed charm for a source folder or a .charm file, named by its content.

    Raises ArchiveError.
    """
    if path.is_dir():
        return _from_source(path.resolve(), progress)
    _check_wheels(path)
    return _keep(path, hashlib.sha256(path.read_bytes()).hexdigest()[:16])


def _keep(path: Path, key: str) -> Path:
    kept = _cache() / f"{key}.charm"
    if not kept.exists():
        new = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(path, new)
        new.replace(kept)
    return kept


def _cache() -> Path:
    path = Path(os.environ.get("KATONIC_CACHE") or Path.home() / ".cache/katonic") / "charms"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _from_source(folder: Path, progress: Callable[[str], None]) -> Path:
    if not (folder / "charmcraft.yaml").exists():
        raise ArchiveError(
            f"{folder} has no charmcraft.yaml: name a charm's folder or a .charm file"
        )
    requirements = _requirements(folder)
    key = _key(folder, requirements)
    kept = _cache() / f"{key}.charm"
    if kept.exists():
        return kept
    progress(f"packing {folder.name} from its source")
    with tempfile.TemporaryDirectory(dir=_cache()) as made:
        charm = Path(made) / "charm"
        shutil.copytree(folder, charm, ignore=shutil.ignore_patterns(*LEFT_OUT))
        _split(charm)
        site = charm / f"venv/lib/python{PYTHON}/site-packages"
        _install(requirements, site)
        (charm / "dispatch").write_text(DISPATCH)
        (charm / "dispatch").chmod(0o755)
        for compiled in (site, charm / "src", charm / "lib"):
            if compiled.exists():
                mode = ["--invalidation-mode", "unchecked-hash", "-s", str(charm)]
                _run([sys.executable, "-m", "compileall", "-q", *mode, str(compiled)])
        archive = Path(made) / "new.charm"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
            for path in sorted(charm.rglob("*")):
                out.write(path, path.relative_to(charm))
        return _keep(archive, key)


def _requirements(folder: Path) -> str:
    """Return what the charm needs, whole and pinned: by the workspace's lock, else by its own.

    A charm outside of the workspace names its needs in requirements.txt.
    """
    project = folder / "pyproject.toml"
    if project.exists() and folder.is_relative_to(ROOT):
        name = tomllib.loads(project.read_text())["project"]["name"]
        export = ["uv", "export", "--quiet", "--package", name, "--frozen", "--no-dev"]
        export += ["--no-editable", "--no-hashes", "--no-header", "--no-annotate"]
        return _run([*export, "--no-emit-project"])
    listed = folder / "requirements.txt"
    return _run(["uv", "pip", "compile", "-q", *HOW, str(listed)]) if listed.exists() else ""


def _members(requirements: str) -> list[Path]:
    """Return the folders of this repository among the requirements."""
    return [ROOT / line for line in requirements.splitlines() if line.startswith("./")]


def _key(folder: Path, requirements: str) -> str:
    digest = hashlib.sha256((Path(__file__).read_text() + requirements).encode())
    for base in (folder, *_members(requirements)):
        for path in _sources(base):
            digest.update(f"{path.relative_to(base)}{path.stat().st_mode}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not LEFT_OUT & set(path.relative_to(folder).parts):
            yield path


def _split(charm: Path) -> None:
    """Write metadata.yaml, config.yaml and actions.yaml, as charmcraft does of charmcraft.yaml."""
    whole = yaml.safe_load((charm / "charmcraft.yaml").read_text())
    (charm / "charmcraft.yaml").unlink()
    config, actions = whole.pop("config", None), whole.pop("actions", None)
    for left_out in ("type", "base", "platforms", "parts", "links"):
        whole.pop(left_out, None)
    for name, content in (("metadata", whole), ("config", config), ("actions", actions)):
        if content:
            (charm / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (charm / "manifest.yaml").write_text(
        "bases: [{architectures: [amd64], channel: '24.04', name: ubuntu}]\n"
    )


def _install(requirements: str, site: Path) -> None:
    """Install the requirements alone: an index has other packages of our own names."""
    if requirements.strip():
        listed = site.parents[3] / "requirements.lock"
        listed.write_text(requirements)
        how = ["--no-deps", "--link-mode", "copy", *HOW, "--python", sys.executable]
        _run(["uv", "pip", "install", "-q", *how, "--target", str(site), "-r", str(listed)])
        listed.unlink()


def _run(command: list[str]) -> str:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    except FileNotFoundError:
        raise ArchiveError(f"{command[0]} is not on PATH: install it, or use ./katonic") from None
    if done.returncode:
        raise ArchiveError(f"{' '.join(command[:3])}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _check_wheels(path: Path) -> None:
    """Refuse a packed charm whose compiled modules are of another Python than the base image's."""
    tag = re.compile(r"\.cpython-(\d)(\d+)-")
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            found = tag.search(name) if name.startswith("venv/") else None
            if found and f"{found[1]}.{found[2]}" != PYTHON:
                raise ArchiveError(
                    f"{path}: {Path(name).name} is of Python {found[1]}.{found[2]}, the sandbox's "
                    f"charm image has {PYTHON}: deploy the charm's source folder instead"
                )
