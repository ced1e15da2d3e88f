"""What `juju` shows has Juju's keys (juju-contract.md, section 5), and jubilant reads it."""

import json
import zipfile
from typing import Any

import jubilant
import pytest
from jubilant.secrettypes import RevealedSecret
from jubilant.statustypes import Status
from jubilant.unittypes import UnitInfo

from sandbox import tables, verbs, views
from sandbox.charm import Charm
from sandbox.model import Model, ModelError


def charm(name: str) -> Charm:
    return Charm.model_validate(
        {
            "name": "probe",
            "revision": 2,
            "options": {
                "i": {"type": "int", "default": 7, "description": "an int"},
                "s": {"type": "string", "description": "no default"},
            },
            "actions": {"ok": {"description": "works", "params": {"word": {"type": "string"}}}},
            "storage": {"data": {"type": "filesystem", "minimum-size": "10M"}},
            "endpoints": {
                "ring": {"name": "ring", "role": "peer", "interface": "probe-ring"},
                "prov": {"name": "prov", "role": "provider", "interface": "probe-if"},
                "req": {"name": "req", "role": "requirer", "interface": "probe-if"},
            },
        }
    )


@pytest.fixture
def model() -> Model:
    """p (one unit, up) and b (two units, not yet), related."""
    model = Model("golden", "7e887193-bc97-4760-8eda-15a7422a2b9d", 1.0)
    model.clock = lambda: 1_795_351_348.0
    model.deploy("p", charm("p"))
    model.deploy("b", charm("b"), 2)
    model.integrate("p:prov", "b:req")
    model.service_up("p", "10.96.75.9", "service-uid")
    model.pod_up("p/0", "10.244.1.53", "pod-uid", "p-0")
    model.storage_ready("p/0", {"data/0": "pvc-1"})
    model.find("p/0").chosen = True
    return model


def test_status_has_jujus_keys(model: Model) -> None:
    found = views.status(model)
    assert list(found) == ["model", "machines", "applications", "storage", "controller"]
    assert found["controller"] == {"timestamp": "12:42:28Z"}
    p, b = found["applications"]["p"], found["applications"]["b"]
    assert {k: p[k] for k in ("charm", "charm-origin", "charm-name", "charm-rev", "scale")} == {
        "charm": "local:probe-2",
        "charm-origin": "local",
        "charm-name": "probe",
        "charm-rev": 2,
        "scale": 1,
    }
    assert p["provider-id"] == "service-uid"
    assert p["relations"]["prov"] == [
        {"related-application": "b", "interface": "probe-if", "scope": "global"}
    ]
    assert p["relations"]["ring"][0]["related-application"] == "p"
    unit = p["units"]["p/0"]
    assert (unit["address"], unit["provider-id"]) == ("10.244.1.53", "p-0")
    assert unit["leader"] is True
    assert b["units"]["b/1"] == {
        "workload-status": {
            "current": "waiting",
            "message": "installing agent",
            "since": "22 Nov 2026 12:42:28Z",
        },
        "juju-status": {"current": "allocating", "since": "22 Nov 2026 12:42:28Z"},
    }
    assert found["storage"]["filesystems"]["0"]["provider-id"] == "pvc-1"
    assert list(views.status(model, "b")["applications"]) == ["b"]


def test_jubilant_reads_every_view(model: Model) -> None:
    status = Status._from_dict(views.status(model))
    assert status.apps["p"].units["p/0"].leader
    assert status.storage.filesystems["0"].size == 10
    assert not jubilant.all_active(status)
    unit = UnitInfo._from_dict(views.show_unit(model, "p/0")["p/0"])
    assert {relation.endpoint for relation in unit.relation_info} == {"prov", "ring"}
    uri = verbs.add_secret(model, "mine", {"key-one": "first"}, "")
    shown = views.show_secret(model, uri, reveal="True")
    name = uri.removeprefix("secret:")
    secret = RevealedSecret._from_dict({"uri": name, **shown[name]})
    assert (secret.content, secret.name) == ({"key-one": "first"}, "mine")


def test_a_secret_is_shown_when_it_is_to_be_revealed_and_never_else(model: Model) -> None:
    verbs.add_secret(model, "mine", {"key-one": "hidden-word"}, "")
    model.update_secret("mine", {"key-one": "second"})
    told: list[Any] = [
        views.secrets(model),
        views.show_secret(model, "mine", revisions="True"),
        views.status(model),
        views.show_unit(model, "p/0"),
    ]
    assert "hidden-word" not in json.dumps(told)
    assert "second" not in json.dumps(told)
    (old,) = views.show_secret(model, "mine", reveal="True", revision="1").values()
    assert old["content"] == {"Data": {"key-one": "hidden-word"}}


def test_config_tells_where_each_value_comes_from(model: Model) -> None:
    model.set_config("p", {"i": "9"})
    found = views.config(model, "p")
    assert found["settings"] == {
        "i": {"default": 7, "description": "an int", "source": "user", "type": "int", "value": 9},
        "s": {"description": "no default", "source": "unset", "type": "string"},
    }
    assert found["application-config"]["trust"]["value"] is False
    with pytest.raises(LookupError, match=r"application nosuch not found \(not found\)"):
        views.config(model, "nosuch")


def test_the_leader_is_a_units_other_name(model: Model) -> None:
    assert list(views.show_unit(model, "p/leader")) == ["p/0"]
    with pytest.raises(ModelError, match="could not determine leader"):
        views.show_unit(model, "b/leader")


def test_the_status_table_is_jujus(model: Model) -> None:
    text = tables.status(views.status(model, "p"), views.relations(model))
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["Model", "Controller", "Cloud/Region", "Version", "Timestamp"]
    assert lines[4][:7] == ["p", "waiting", "0/1", "probe", "2", "10.96.75.9", "no"]
    assert lines[7] == ["p/0*", "waiting", "allocating", "10.244.1.53", "installing", "agent"]
    assert "p:prov                b:req     probe-if    regular" in text
    assert "\x1b[33mwaiting\x1b[0m" in tables.status(views.status(model), colour=True)


def test_a_new_content_of_a_charm_is_a_new_revision(
    model: Model, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATONIC_STATE", str(tmp_path / "state"))
    (tmp_path / "state/charms").mkdir(parents=True)
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"{number}.charm")
        with zipfile.ZipFile(paths[-1], "w") as packed:
            packed.writestr("metadata.yaml", "name: other\n")
    made = [
        verbs.deploy(model, str(path), f"app-{name}", {})["revision"]
        for name, path in (("a", paths[0]), ("b", paths[1]), ("c", paths[0]))
    ]
    assert made == [0, 1, 0]


def test_text_of_several_lines_is_a_block_as_go_writes_it() -> None:
    shown = tables.as_yaml({"table": "POOL   NODES\n\ngpu    2", "note": "a word " * 20})
    assert shown == f"table: |-\n  POOL   NODES\n\n  gpu    2\nnote: '{'a word ' * 20}'\n"
