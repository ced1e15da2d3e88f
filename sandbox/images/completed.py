"""Go for a module that lacks on the proxy what its releases are built with."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sandbox.images.layers import Workspace
from sandbox.images.steps import Toolchain


@dataclass(frozen=True, repr=False)
class CompletedToolchain(Toolchain):
    """The Go of this machine, that adds a file to a module before it builds it."""

    name: str
    content: str

    def __repr__(self) -> str:
        return f"{super().__repr__()} with {self.name}: {self.content!r}"

    def compile(
        self, workspace: Workspace, folder: Path, package: str, target: str, flags: str
    ) -> None:
        """Build a package of the module in the folder, completed in a copy of it."""
        with tempfile.TemporaryDirectory() as scratch:
            copy = shutil.copytree(folder, Path(scratch) / "module")
            copy.joinpath(self.name).write_text(self.content)
            super().compile(workspace, copy, package, target, flags)
