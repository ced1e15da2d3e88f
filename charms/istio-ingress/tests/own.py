"""The charm's own modules, loaded under no name that another charm's could have too."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
_NAMES = ("certificate", "charm", "control_plane", "follower", "gateway", "images", "options")
_MORE = ("kinds", "pods", "routes", "surroundings", "traffic", "verdict", "whole")


def modules() -> dict[str, ModuleType]:
    """Return them by name."""
    folders = [str(ROOT / "src"), str(ROOT / "tests")]
    sys.path[:0] = folders
    try:
        return {it: importlib.import_module(it) for it in (*_NAMES, *_MORE, "world")}
    finally:
        for it in folders:
            sys.path.remove(it)
        for it in (*_NAMES, *_MORE, "world"):
            sys.modules.pop(it, None)


def metadata() -> dict[str, Any]:
    """Return what charmcraft.yaml says."""
    return yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
