"""The command line takes Juju's words: those of jubilant 1.14, to the letter."""

import argparse
from pathlib import Path

import pytest

from sandbox import cli, commands


def parsed(line: str) -> argparse.Namespace:
    return cli.parser().parse_args(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "deploy ./x.charm app --model m --attach-storage data/0 --base ubuntu@24.04 --bind x "
        "--channel edge --config a=1 --config b=2 --constraints mem=1G --force --num-units 3 "
        "--overlay o.yaml --resource r=i --revision 3 --storage data=1G --trust",
        "add-model --no-switch m cloud/region --controller c --config k=v --credential x",
        "destroy-model m --no-prompt --destroy-storage --force --no-wait --release-storage "
        "--timeout 30s",
        "integrate a:x b:y --model m --via 10.0.0.0/8",
        "remove-relation a b --force",
        "config --format json app",
        "config app k=v --reset a,b",
        "status --format json --model m",
        "run --format json a/0 act --wait 60s --params f.yaml",
        "exec --format json --unit a/0 --wait 1.5s -- ls -l",
        "ssh --model m --container c --no-host-key-checks ubuntu@a/0 ls -l",
        "scp --container c --no-host-key-checks -- -r a b/0:c",
        "add-secret name --info text --file f.yaml",
        "update-secret name --info text --file f.yaml",
        "grant-secret name a,b",
        "remove-secret name --revision 3",
        "secrets --owner a --format json",
        "show-secret name --format json --reveal --revision 2",
        "refresh app --path p --base b --channel c --config k=v --force --force-base "
        "--force-units --resource r=i --revision 2 --storage s=1G --trust",
        "remove-application --no-prompt a b --destroy-storage --force",
        "add-unit a --attach-storage data/0 --num-units 2 --to x",
        "remove-unit --no-prompt a --num-units 2 --destroy-storage --force",
        "trust a --remove --scope cluster",
        "debug-log --limit 0",
        "show-model --format json m",
        "show-unit a/0 --format json",
        "version --format json --all",
        "model-config --format json",
        "model-config k=v --reset a,b",
        "model-constraints --format json",
        "set-model-constraints mem=1G",
        "switch m",
    ],
)
def test_jubilants_lines_are_understood(line: str) -> None:
    assert parsed(line).verb == line.split()[0]


def test_what_follows_two_dashes_is_the_command() -> None:
    found = parsed("exec --unit a/0 --format json -- ls --unit -l")
    assert found.command == ["--", "ls", "--unit", "-l"]
    assert (found.unit, found.format) == (["a/0"], "json")
    assert parsed("ssh a/0 ls -l --container").command == ["ls", "-l", "--container"]


def test_durations_are_gos() -> None:
    assert commands.seconds("1h30m") == 5400
    assert commands.seconds("1.5s") == 1.5
    with pytest.raises(commands.UsageError, match="invalid duration"):
        commands.seconds("90")


def test_wrong_constraints_are_refused_in_jujus_words() -> None:
    assert commands.constraints_of(["mem=1G tags=a=b,c=d", "cpu-power=250"]) == {
        "mem": "1G",
        "tags": "a=b,c=d",
        "cpu-power": "250",
    }
    with pytest.raises(commands.UsageError, match='unknown constraint "foo"'):
        commands.constraints_of(["foo=1"])
    with pytest.raises(commands.UsageError, match='bad "mem" constraint: must be'):
        commands.constraints_of(["mem=abc"])


def test_parameters_nest_and_are_yaml() -> None:
    words = ["obj.a.b=1", "list=[1, 2]", "word=x"]
    assert commands.parameters(words, {"z": 1}, plain=False) == {
        "z": 1,
        "obj": {"a": {"b": 1}},
        "list": [1, 2],
        "word": "x",
    }
    assert commands.parameters(["n=1"], {}, plain=True) == {"n": "1"}


def test_a_resource_that_is_a_file_is_kept_for_the_controller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATONIC_STATE", str(tmp_path / "state"))
    (tmp_path / "state/resources").mkdir(parents=True)
    note = tmp_path / "note.txt"
    note.write_text("a text")
    found = commands.resources_of([f"note={note}", "image=quay.io/x:1"])
    assert found["image"] == "quay.io/x:1"
    assert Path(found["note"]).read_text() == "a text"
    assert commands.resources_of([f"note={note}"])["note"] == found["note"]
    assert Path(found["note"]).stat().st_mode & 0o077 == 0


def test_config_of_a_file_may_name_its_application(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("app: {k: v, n: 1}\n")
    assert commands.options_of([str(tmp_path / "a.yaml"), "k=w"]) == {"k": "w", "n": 1}


def test_a_task_reads_as_juju_prints_it() -> None:
    done = {"id": "7", "status": "completed", "results": {"return-code": 0, "out": "1"}}
    assert commands.action_text(done) == "out: '1'\n\n"
    failed = {"id": "15", "status": "failed", "message": "it went wrong", "results": {}}
    assert commands.action_text(failed) == "Action id 15 failed: it went wrong\n"
