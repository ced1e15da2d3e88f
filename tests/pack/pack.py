"""Packs every charm into dist/, and proves each: unpacked, it imports with its own venv alone.

charmcraft builds for Ubuntu 24.04, with its Python 3.12. On another distribution it is shown an
os-release that says Ubuntu, in a mount namespace of its own: it packs as if on 24.04.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sandbox.charm import read_charm

ROOT = Path(__file__).parents[2]
CHARMCRAFT = "charmcraft==4.5.0"
SYSTEM_PYTHON = "/usr/bin/python3"
SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")
PYTHON = "3.12"
UBUNTU = "24.04"
CPU_OF_IMPORT = """\
import json, sys, time
import charm
files = [it.__file__ for it in sys.modules.values() if getattr(it, "__file__", None)]
print(json.dumps({"seconds": time.process_time(), "files": files}))
"""


class Failure(Exception):  # noqa: N818 - the user reads its message alone
    """A charm could not be packed or does not import; the message is one line that says why."""


class Unable(Exception):  # noqa: N818 - as above
    """This machine lacks what packing needs; the message names it."""


@dataclass(frozen=True)
class Packed:
    """A packed charm, the seconds it took, and the CPU seconds in which it imports."""

    path: Path
    seconds: float
    cpu: float


def find_python() -> Path:
    """Return the Python that Ubuntu 24.04 has.

    Raises:
        Unable: There is none on PATH, nor one kept by pyenv.
    """
    known = {**os.environ, "PYENV_VERSION": PYTHON}
    find = ["uv", "python", "find", "--no-project", PYTHON]
    found = subprocess.run(find, env=known, capture_output=True, text=True)
    if found.returncode:
        raise Unable(f"charms for Ubuntu {UBUNTU} need Python {PYTHON}, which is not on PATH")
    return Path(found.stdout.strip()).resolve()


def make_charmcraft(folder: Path) -> Path:
    """Return charmcraft, installed for the system's Python, whose `apt` module it needs.

    Raises:
        Unable: The machine has no Python with an `apt` module, and it cannot be installed.
    """
    if not list(SYSTEM_PACKAGES.glob("apt_pkg.*.so")):
        if os.geteuid() or not shutil.which("apt-get"):
            raise Unable("charmcraft needs python3-apt, and root to install it")
        run(["apt-get", "-q", "update"])
        run(["apt-get", "-qy", "--no-install-recommends", "install", "python3-apt"])
    version = run([SYSTEM_PYTHON, "-c", "import platform; print(platform.python_version())"])
    home = folder / f"{CHARMCRAFT.replace('==', '-')}-python-{version.strip()}"
    charmcraft = home / "bin/charmcraft"
    if not (home / "complete").exists():
        print(f"installing {CHARMCRAFT}", flush=True)
        run(["uv", "venv", "--quiet", "--clear", "--python", SYSTEM_PYTHON, str(home)])
        run(["uv", "pip", "install", "--quiet", "--python", str(home / "bin/python"), CHARMCRAFT])
        (packages,) = home.glob("lib/python*/site-packages")
        for name in ("apt", "apt_pkg.*.so", "apt_inst.*.so"):
            for there in SYSTEM_PACKAGES.glob(name):
                (packages / there.name).symlink_to(there)
        (home / "complete").touch()
    return charmcraft


def as_ubuntu(command: list[str], folder: Path) -> list[str]:
    """Return the command, run where os-release says Ubuntu; itself where that is true.

    Raises:
        Unable: It is not true, and the user may not make a mount namespace.
    """
    here = platform.freedesktop_os_release()
    if (here["ID"], here.get("VERSION_ID")) == ("ubuntu", UBUNTU):
        return command
    if os.geteuid():
        raise Unable(f"packing on another system than Ubuntu {UBUNTU} needs root")
    told = folder / "os-release"
    told.write_text(f'NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="{UBUNTU}"\n')
    told.chmod(0o644)
    mount = 'mount --bind "$0" /usr/lib/os-release && exec "$@"'
    private = ["unshare", "--mount", "--propagation", "private"]
    return [*private, "sh", "-c", mount, str(told), *command]


def copy_tree(to: Path) -> None:
    """Copy what git would take of the tree as it stands: nothing that an earlier packing left."""
    files = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def pack(charm: Path, command: list[str], python: Path) -> Path:
    """Return the .charm that charmcraft makes of a charm's folder.

    Raises:
        Failure: charmcraft refuses; the message is its own.
    """
    environment = {
        **os.environ,
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "UV_PYTHON": str(python),
        "XDG_RUNTIME_DIR": str(charm),
    }
    run([*command, "pack", "--destructive-mode"], cwd=charm, environment=environment)
    (made,) = charm.glob("*.charm")
    kept = made.replace(ROOT / "dist" / f"{charm.name}.charm")
    for left in ("parts", "stage", "prime", "overlay"):
        shutil.rmtree(charm / left, ignore_errors=True)
    return kept


def prove(packed: Path, source: Path, python: Path, folder: Path) -> float:
    """Return the CPU seconds in which the packed charm imports.

    Raises:
        Failure: It is not what its source is, does not import, or not with its own venv alone.
    """
    if read_charm(packed).model_copy(update={"path": source}) != read_charm(source):
        raise Failure(f"{packed.name}: its metadata is not that of {source}")
    charm = folder / packed.stem
    shutil.unpack_archive(packed, charm, "zip")
    # As its `dispatch` does: the unit's Python, linked into the venv that was packed.
    own = charm / "venv/bin/python"
    own.symlink_to(python)
    environment = {"PYTHONPATH": f"{charm}/lib:{charm}/src", "PATH": "/usr/bin:/bin"}
    said = run([str(own), "-W", "error", "-c", CPU_OF_IMPORT], cwd=charm, environment=environment)
    imported = json.loads(said)
    installed = ("site-packages", "dist-packages")
    for file in imported["files"]:
        if any(it in file for it in installed) and not file.startswith(f"{charm}/"):
            raise Failure(f"{packed.name}: imports {file}, which is not in it")
    return imported["seconds"]


def run(command: list[str], cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> str:
    """Return what a command prints.

    Raises:
        Failure: It failed; the message ends with what it said last.
    """
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
        said = " ".join(command).partition("\n")[0]
        raise Failure(f"{said}: exit code {done.returncode}\n{last}")
    return done.stdout


def pack_all(folder: Path) -> list[Packed]:
    """Pack and prove every charm, with `folder` for scratch, and return them.

    Raises:
        Failure: One could not be packed, or is not good.
        Unable: This machine cannot pack.
    """
    python = find_python()
    cache = Path(os.environ.get("KATONIC_CACHE") or Path.home() / ".cache/katonic").absolute()
    cache.mkdir(parents=True, exist_ok=True)
    charmcraft = as_ubuntu([str(make_charmcraft(cache))], folder)
    tree = folder / "tree"
    copy_tree(tree)
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    (ROOT / "dist").mkdir()
    done = []
    for metadata in sorted(ROOT.glob("charms/*/charmcraft.yaml")):
        name = metadata.parent.name
        print(f"packing {name}", flush=True)
        begun = time.monotonic()
        made = pack(tree / "charms" / name, charmcraft, python)
        seconds = time.monotonic() - begun
        done.append(Packed(made, seconds, prove(made, metadata.parent, python, folder)))
    if not done:
        raise Failure("there is no charm to pack in charms/")
    return done


def main() -> int:
    """Pack as the command line says, tell sizes and times, and return the exit code."""
    parser = argparse.ArgumentParser(prog="./katonic pack", description=__doc__)
    parser.add_argument(
        "--skip-if-unable", action="store_true", help="succeed where the machine cannot pack"
    )
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = pack_all(Path(folder))
    except Unable as reason:
        print(f"{'SKIPPED' if given.skip_if_unable else 'ERROR'} pack: {reason}", file=sys.stderr)
        return 0 if given.skip_if_unable else 1
    except Failure as reason:
        print(f"ERROR {reason}", file=sys.stderr)
        return 1
    table = Table("Charm", "Size", "Packed in", "Imports in (CPU)", box=None, pad_edge=False)
    for it in done:
        size = f"{it.path.stat().st_size / 1e6:.1f} MB"
        table.add_row(f"dist/{it.path.name}", size, f"{it.seconds:.1f} s", f"{it.cpu:.2f} s")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
