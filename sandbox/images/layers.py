"""Makes the layers of images: each is what some steps change on top of another layer."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_REPOSITORY = Path(__file__).parents[2]
_CODE = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("layers.py", "steps.py"))


class ImageError(Exception):
    """What keeps an image from being built, in one line."""


@dataclass(frozen=True, repr=False)
class Source:
    """A file or folder of this repository; its repr, of which keys are made, tells its content."""

    name: str

    @property
    def path(self) -> Path:
        """Return where it is on this machine."""
        return _REPOSITORY / self.name

    def __repr__(self) -> str:
        files = sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]
        digest = hashlib.sha256()
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                name = file.relative_to(self.path).as_posix()
                digest.update(f"{name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
        return f"Source({self.name!r}, {digest.hexdigest()})"


@dataclass(frozen=True)
class Workspace:
    """Where a layer comes to be.

    `tree` is the overlay's upper directory, `lower` the trees beneath it, lowest first,
    `cache` the folder of downloads, `log` the file that takes what the tools say, and
    `progress` hears what is being done.
    """

    cache: Path
    log: Path
    progress: Callable[[str], None]
    tree: Path
    lower: Sequence[Path] = field(default=())

    def place(self, target: str) -> Path:
        """Return where a path of the image is on this machine; its folder is there then."""
        path = self.tree / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def install(self, package: str) -> None:
        """Install a Debian package on this machine if it is missing."""
        query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
        if subprocess.run(query, capture_output=True, text=True).stdout != "installed":
            apt = [
                "apt-get",
                "-q",
                "-y",
                "--no-install-recommends",
                "-o",
                "DPkg::Lock::Timeout=600",
            ]
            self.progress(f"installing {package} on this machine")
            quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            self.run([*apt, "update"], quiet)
            self.run([*apt, "install", package], quiet)

    def run(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        heard: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Run a command on this machine, telling `heard` how many lines it has said.

        Raises ImageError with its last words when it fails.
        """
        words = ""
        with self.log.open("a") as log:
            log.write(f"+ {' '.join(map(str, command))}\n")
            with subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process:
                assert process.stdout
                for count, line in enumerate(process.stdout, start=1):
                    log.write(line)
                    words = line.strip() or words
                    heard(count)
        if code := process.returncode:
            raise ImageError(f"{command[0]} failed ({code}): {words} (all of it: {self.log})")

    def enter(
        self,
        script: str,
        binds: Mapping[Path, str] | None = None,
        user: str = "0:0",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Run a shell script in the image, in namespaces of its own.

        `binds` maps paths of this machine to where the script sees them; those that the image
        does not have must lie in /mnt, which is empty and, like /tmp, not kept.
        """
        work, root = self.tree.with_name("work"), self.tree.with_name("root")
        for folder in (work, root):
            folder.mkdir(exist_ok=True)
        lower = ":".join(str(it) for it in reversed(self.lower))
        seen = {Path("/etc/resolv.conf"): "/etc/resolv.conf", **(binds or {})}
        mounts = "\n".join(
            f'[ -e "$R{place}" ] || {"mkdir" if path.is_dir() else "touch"} "$R{place}"\n'
            f'mount --bind "{path}" "$R{place}"'
            for path, place in seen.items()
        )
        entry = f"""
            options=redirect_dir=off,metacopy=off,index=off
            options="$options,lowerdir={lower},upperdir={self.tree},workdir={work}"
            mount -t overlay overlay -o "$options" "$R"
            mount -t proc proc "$R/proc"
            mount --rbind /dev "$R/dev"
            mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
            mount -t tmpfs tmpfs "$R/mnt"
            {mounts}
            exec chroot --userspec={user} "$R" sh -euxc "$SCRIPT"
        """
        proxies = {name: it for name, it in os.environ.items() if name.lower().endswith("_proxy")}
        variables = {"PATH": PATH, "HOME": "/tmp", "LANG": "C.UTF-8", **proxies}  # noqa: S108
        namespaces = ["--mount", "--pid", "--ipc", "--fork", "--kill-child"]
        self.run(
            ["unshare", *namespaces, "sh", "-euc", entry],
            {**variables, "R": str(root), "SCRIPT": script, **(environment or {})},
        )


@dataclass(frozen=True)
class Layer:
    """What the steps change on top of the parent; its name is for people."""

    name: str
    parent: "Layer | None"
    steps: tuple[Callable[[Workspace], None], ...]

    @property
    def lineage(self) -> "tuple[Layer, ...]":
        """Return the layers this one stands on and itself, lowest first."""
        return (*(self.parent.lineage if self.parent else ()), self)

    @property
    def key(self) -> str:
        """Return 16 hex digits that differ when anything that the layer is made of differs."""
        content = f"{self.parent and self.parent.key} {self.steps!r}"
        return hashlib.sha256(_CODE + content.encode()).hexdigest()[:16]

    def tree(self, cache: Path) -> Path:
        """Return where the cache keeps the layer, as an overlay's upper directory."""
        return cache / "images/layers" / self.key


def build_layer(layer: Layer, cache: Path, progress: Callable[[str], None]) -> None:
    """Make the layer in the cache, which holds those beneath it."""
    tree = layer.tree(cache)
    work, log = cache / "images/work" / tree.name, cache / "images/log" / f"{layer.name}.log"
    shutil.rmtree(work, ignore_errors=True)
    for folder in (tree.parent, work / "tree", log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    lower = [it.tree(cache) for it in layer.lineage[:-1]]
    workspace = Workspace(cache, log, progress, work / "tree", lower)
    for step in layer.steps:
        step(workspace)
    workspace.tree.rename(tree)
    shutil.rmtree(work)
