"""The steps that layers are made by: what comes from which registry, by its own client."""

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sandbox.cluster import build
from sandbox.cluster.home import locked
from sandbox.images.layers import ImageError, Source, Workspace

_APT = "-q -y -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 --no-install-recommends"
_UNUSED = ("doc/*", "info/*", "lintian/*", "locale/*", "man/*")
_SWEEP = """
    rm -rf /var/log/apt /var/log/*.log /var/cache/debconf/* /var/lib/dpkg/*-old \
        /var/cache/ldconfig/aux-cache /var/cache/apt/*.bin \
        /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow-
"""
_WAITING = "waiting for another build with Go to end"
_COMPILE = "python3 -m compileall -q -f --invalidation-mode unchecked-hash"
_NO_USRMERGE = """printf 'Package: usrmerge\nPin: release *\nPin-Priority: -1\n' \
    >"$1/etc/apt/preferences.d/usrmerge"
"""


@dataclass(frozen=True)
class Bootstrap:
    """A minimal Debian of the suite, with some packages more."""

    suite: str
    packages: tuple[str, ...]

    def __call__(self, workspace: Workspace) -> None:
        """Make the system by mmdebstrap."""
        workspace.install("mmdebstrap")
        workspace.install("debian-archive-keyring")
        paths = [f"path-exclude=/usr/share/{it}" for it in _UNUSED]
        paths.append("path-include=/usr/share/doc/*/copyright")
        # usr-is-merged stands in for usrmerge, which would bring all of Perl.
        workspace.run(
            [
                "mmdebstrap",
                "--variant=minbase",
                "--format=directory",
                "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
                f"--setup-hook={_NO_USRMERGE}",
                f"--include={','.join(('usr-is-merged', *self.packages))}",
                "--dpkgopt=force-unsafe-io",
                *(f"--dpkgopt={it}" for it in paths),
                self.suite,
                workspace.tree,
            ]
        )
        for name in ("resolv.conf", "hostname", "machine-id"):
            workspace.place(f"/etc/{name}").write_text("")
        # apt makes these again; whose they are hangs on who may enter the cache's folder.
        partial_downloads = "rm -r /var/lib/apt/lists/partial /var/cache/apt/archives/partial"
        workspace.run(["chroot", workspace.tree, "sh", "-euc", f"{_SWEEP}\n{partial_downloads}"])


@dataclass(frozen=True)
class Packages:
    """Debian packages without what they recommend, after a script that prepares the ground."""

    names: tuple[str, ...]
    before: str = ""
    left_out: tuple[str, ...] = ()

    def __call__(self, workspace: Workspace) -> None:
        """Install the packages by apt, whose downloads the cache keeps."""
        binds = {
            workspace.cache / "apt/lists": "/var/lib/apt/lists",
            workspace.cache / "apt/archives": "/var/cache/apt/archives",
        }
        for folder in binds:
            (folder / "partial").mkdir(parents=True, exist_ok=True)
        left_out = " ".join(f"-o Dpkg::Options::=--path-exclude={it}" for it in self.left_out)
        script = f"""
            export DEBIAN_FRONTEND=noninteractive
            {self.before}
            apt-get {_APT} update
            apt-get {_APT} {left_out} install {" ".join(self.names)}
            ! command -v python3 || {_COMPILE} /usr/lib/python3.11 /usr/lib/python3
            {_SWEEP}
        """
        workspace.enter(script, binds)


@dataclass(frozen=True, repr=False)
class Toolchain:
    """The Go of this machine; its repr, of which keys are made, tells its version."""

    def __repr__(self) -> str:
        return f"Toolchain({build.go()[1]}, {build.go_environment()['GOFLAGS']})"

    def compile(
        self, workspace: Workspace, folder: Path, package: str, target: str, flags: str
    ) -> None:
        """Build a package of the module in the folder into a static program of the image."""
        go, environment = build.go()[0], build.go_environment()
        listed = subprocess.run(
            [go, "list", "-deps", package], cwd=folder, env=environment, capture_output=True
        )
        packages = len(listed.stdout.split())

        def heard(count: int) -> None:
            if count % 50 == 0:
                workspace.progress(f"compiled {count} of at most {packages} Go packages")

        options = ["-v", "-ldflags", flags, "-o", workspace.place(target)]
        workspace.run([go, "build", *options, package], environment, folder, heard)


@dataclass(frozen=True)
class GoModule:
    """A program of a module on the Go proxy, which its go.sum pins as a whole."""

    module: str
    version: str
    package: str
    target: str
    flags: str = "-s -w"
    toolchain: Toolchain = Toolchain()

    def __call__(self, workspace: Workspace) -> None:
        """Fetch the module and build the package."""
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
            folder = Path(module["Dir"])
            self.toolchain.compile(workspace, folder, self.package, self.target, self.flags)


@dataclass(frozen=True)
class GoProgram:
    """A program of this repository."""

    source: Source
    target: str
    toolchain: Toolchain = Toolchain()

    def __call__(self, workspace: Workspace) -> None:
        """Build the program."""
        with locked(build.go_lock(), partial(workspace.progress, _WAITING)):
            self.toolchain.compile(workspace, self.source.path, ".", self.target, "-s -w")


@dataclass(frozen=True)
class Copy:
    """A file of this repository."""

    source: Source
    target: str
    mode: int

    def __call__(self, workspace: Workspace) -> None:
        """Copy the file."""
        target = workspace.place(self.target)
        shutil.copyfile(self.source.path, target)
        target.chmod(self.mode)


@dataclass(frozen=True)
class MavenZip:
    """What the one folder in a zip on Maven's registry holds, without the files' modes."""

    group: str
    artifact: str
    version: str
    sha256: str
    target: str

    def __call__(self, workspace: Workspace) -> None:
        """Fetch, verify and unpack the archive."""
        folder = workspace.cache / "maven"
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / f"{self.artifact}-{self.version}.zip"
        if not archive.exists() or self._digest(archive) != self.sha256:
            workspace.install("maven")
            workspace.run(
                [
                    *("mvn", "-q", "-B"),
                    "org.apache.maven.plugins:maven-dependency-plugin:3.9.0:copy",
                    f"-Dartifact={self.group}:{self.artifact}:{self.version}:zip",
                    f"-DoutputDirectory={folder}",
                ],
                folder=folder,
            )
        if (found := self._digest(archive)) != self.sha256:
            raise ImageError(f"{archive}: its sha256 is {found}, not {self.sha256}")
        unpacked = workspace.tree.with_name("unpacked")
        with zipfile.ZipFile(archive) as content:
            content.extractall(unpacked)
        (only,) = unpacked.iterdir()
        only.rename(workspace.place(self.target))

    def _digest(self, archive: Path) -> str:
        with archive.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()


@dataclass(frozen=True)
class PythonEnvironment:
    """A virtual environment of the image's Python with what a lock of uv names, by hash."""

    lock: Source
    target: str

    def __call__(self, workspace: Workspace) -> None:
        """Make the environment by uv and compile it to byte code."""
        # uv tells its own place to what it runs; the one on PATH may be a wrapper.
        asked = [os.environ.get("UV", "uv"), "run", "--no-project", "printenv", "UV"]
        try:
            uv = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError) as error:
            raise ImageError(f"uv does not run, install it: {error}") from None
        downloads = workspace.cache / "uv"
        downloads.mkdir(parents=True, exist_ok=True)
        authorities = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
        packages = f"{self.target}/lib/python3.11/site-packages"
        workspace.enter(
            f"""
            /mnt/uv venv --python /usr/bin/python3 {self.target}
            /mnt/uv pip install --python {self.target}/bin/python --require-hashes \
                --no-build --link-mode copy -r /mnt/lock
            find {packages} -depth -type d -name tests -exec rm -rf '{{}}' +
            {_COMPILE} {packages}
            """,
            {
                Path(uv): "/mnt/uv",
                self.lock.path: "/mnt/lock",
                downloads: "/mnt/downloads",
                Path(authorities): "/mnt/authorities",
            },
            environment={
                **{name: it for name, it in os.environ.items() if "INDEX" in name},
                "UV_CACHE_DIR": "/mnt/downloads",
                "UV_NO_CONFIG": "1",
                "UV_PYTHON_DOWNLOADS": "never",
                "SSL_CERT_FILE": "/mnt/authorities",
            },
        )


@dataclass(frozen=True)
class Script:
    """A shell script run as root inside the image."""

    text: str

    def __call__(self, workspace: Workspace) -> None:
        """Run the script."""
        workspace.enter(self.text)
