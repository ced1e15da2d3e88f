"""The cluster's own images, which the registry on the control node serves as it does others."""

import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.cluster import build
from sandbox.cluster.home import Home
from sandbox.cluster.processes import run
from sandbox.images import oci

LIBRARIES = ("libc.so.6", "libm.so.6", "libresolv.so.2")


@dataclass(frozen=True)
class Own:
    """The cluster's own images, as OCI tars: a pod's first process, DNS, a shell to try with."""

    pause: Path
    coredns: Path
    busybox: Path


def own(home: Home, binaries: Path) -> Own:
    """Return the cluster's own images, made now if they are not in the cache."""
    programs = build.key([binaries.name], [Path(oci.__file__)])
    shell = build.key([platform.machine()], [Path(oci.__file__), Path(__file__)])
    made = Own(
        home.images / f"pause-{programs}.tar",
        home.images / f"coredns-{programs}.tar",
        home.images / f"busybox-{shell}.tar",
    )
    home.images.mkdir(parents=True, exist_ok=True)
    for target in (made.pause, made.coredns):
        name = target.name.split("-")[0]
        if not target.exists():
            with tempfile.TemporaryDirectory() as tree:
                shutil.copy2(binaries / name, tree)
                write(target, name, Path(tree), {"Entrypoint": [f"/{name}"]})
    if not made.busybox.exists():
        with tempfile.TemporaryDirectory() as tree:
            lay_out_busybox(Path(tree), home.packages_log)
            write(made.busybox, "busybox", Path(tree), {"Cmd": ["sh"]})
    for old in set(home.images.iterdir()) - set(vars(made).values()):
        old.unlink()
    return made


def write(target: Path, name: str, tree: Path, config: Mapping[str, object]) -> None:
    """Write a file tree as an image of the cluster."""
    version = "1" if name != "coredns" else build.version("github.com/coredns/coredns")
    path = {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
    oci.write_image(target, f"localhost/cluster/{name}", version, [tree], {**path, **config})


def lay_out_busybox(tree: Path, log: Path) -> None:
    """Lay out Debian's dynamic busybox with its libraries; the static one cannot resolve names."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # apt downloads as a user of its own
        build.apt(log, "update")
        build.apt(log, "download", "busybox", folder=Path(folder))
        (package,) = Path(folder).glob("busybox_*.deb")
        run(["dpkg-deb", "--extract", package, folder])
        busybox = next(p for p in Path(folder).rglob("bin/busybox") if p.is_file())
        for name in ("bin", "etc", "lib", "root", "var"):
            (tree / name).mkdir()
        (tree / "tmp").mkdir()
        (tree / "tmp").chmod(0o1777)
        shutil.copy2(busybox, tree / "bin/busybox")
    for applet in run([tree / "bin/busybox", "--list"]).split():
        if applet != "busybox":
            (tree / "bin" / applet).symlink_to("busybox")
    loader = next(Path("/").glob("lib*/ld-linux-*.so.*"))
    (tree / loader.parent.name).mkdir(exist_ok=True)
    shutil.copy2(loader.resolve(), tree / loader.relative_to("/"))
    for library in LIBRARIES:
        found = next(Path("/lib").glob(f"{platform.machine()}-linux-gnu/{library}"))
        shutil.copy2(found.resolve(), tree / "lib" / library)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
