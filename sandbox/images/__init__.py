"""The sandbox's OCI images, made from packages of the public registries and kept by content."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sandbox.cluster import home
from sandbox.images import oci
from sandbox.images.layers import ImageError, Layer, Workspace, build_layer
from sandbox.images.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Image", "ImageError", "build"]

KEPT = 14 * 24 * 60 * 60
"""How long the cache keeps what no build asks for, in seconds."""


@dataclass(frozen=True)
class Image:
    """An OCI layout in a tar, and the name that pods call it by."""

    reference: str
    tar: Path


def build(names: Sequence[str], progress: Callable[[str], None]) -> dict[str, Image]:
    """Return the named images, made where the cache does not hold them.

    Raises ImageError: a name that no recipe has, or what kept a layer from being made.
    """
    for name in names:
        if name not in RECIPES:
            raise ImageError(f"no image {name!r}; there are: {', '.join(RECIPES)}")
    cache = home.cache()
    # The recipes' order, in which those that wait for the one Go build at a time come last.
    recipes = {name: RECIPES[name] for name in RECIPES if name in names}
    tars = {name: cache / "images" / f"{name}-{key(it)}.tar" for name, it in recipes.items()}
    if not all(it.exists() for it in tars.values()):
        if os.geteuid():
            raise ImageError("images are built in namespaces of their own: run this as root")
        waiting = partial(progress, "waiting for another build of images to end")
        with home.locked(cache / "images/lock", waiting):
            _prune(cache / "images")
            for name, recipe in recipes.items():
                if not tars[name].exists():
                    _build(name, recipe, tars[name], cache, progress)
    for used in [*tars.values(), *(layer.tree(cache) for layer in _layers(recipes.values()))]:
        with suppress(OSError):
            os.utime(used)
    return {name: Image(oci.read_reference(tars[name]), tars[name]) for name in names}


def key(recipe: Recipe) -> str:
    """Return 16 hex digits that differ when anything that the image is made of differs."""
    digest = hashlib.sha256(f"{recipe.layer.key} {recipe!r}".encode())
    digest.update(Path(oci.__file__).read_bytes())
    return digest.hexdigest()[:16]


def _layers(recipes: Iterable[Recipe]) -> set[Layer]:
    return {layer for recipe in recipes for layer in recipe.layer.lineage}


def _prune(images: Path) -> None:
    """Remove what no build has asked for in `KEPT` seconds, and what one cut short left."""
    for path in (*images.glob("*.tar"), *images.glob("tmp*"), *images.glob("layers/*")):
        if time.time() - path.stat().st_mtime > KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _build(
    name: str, recipe: Recipe, tar: Path, cache: Path, progress: Callable[[str], None]
) -> None:
    lineage = recipe.layer.lineage
    for layer in lineage:
        if not layer.tree(cache).exists():
            progress(f"making the layer {layer.name}")
            build_layer(layer, cache, progress)
    trees = [layer.tree(cache) for layer in lineage]
    progress("trying it out")
    with tempfile.TemporaryDirectory(dir=cache / "images") as folder:
        log = cache / f"images/log/{name}-check.log"
        trial = Workspace(cache, log, progress, Path(folder, "tree"), trees)
        trial.tree.mkdir()
        trial.log.write_text("")
        check = f"bash -c 'command -v timeout'; {recipe.check}"
        trial.enter(check, user=recipe.user, environment=recipe.variables)
    progress("writing the image")
    oci.write_image(tar, f"localhost/katonic/{name}", recipe.version, trees, recipe.config)
