"""What a user asks of a model is done or refused in Juju's words (the contract's section 5)."""

from typing import Any

import pytest
from lab import Lab

from sandbox.model import Model, ModelError

BETWEEN = 'adding relation between endpoints "{0}" and "{1}": '
CANNOT = BETWEEN + 'cannot relate endpoints "{0}" and "{1}": '


def test_a_model_survives_being_written_down(pair: Lab) -> None:
    pair.exec("b/0", "secret-add abc=one --label L", "open-port 80", "state-set k=v")
    pair.model.run_action("p/0", "ok", {"word": "x"})
    pair.model.find("b/1").failed = next(e for u, e in pair.told if u == "b/1")
    pair.model.check("b/2", "c1", "up", failed=True)
    again = Model.from_json(pair.model.to_json())
    assert again == pair.model
    assert again.to_json() == pair.model.to_json()


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        ("p:nosuch", "b:req", "no candidates for p:nosuch: relation endpoint not found"),
        ("p:prov", "nosuch:x", "no candidates for nosuch:x: relation endpoint not found"),
        ("p:prov", "b:other", "no compatible endpoints found between applications"),
        (
            "p",
            "b",
            'ambiguous relation: "p b" could refer to "p:prov b:req"; "p:prov b:lim"; '
            '"p:req b:prov"; "p:lim b:prov"',
        ),
    ],
)
def test_a_relation_that_cannot_be_is_refused(lab: Lab, one: str, other: str, text: str) -> None:
    lab.deploy("p")
    lab.deploy("b")
    with pytest.raises(ModelError) as refused:
        lab.model.integrate(one, other)
    assert str(refused.value) == CANNOT.format(one, other) + text


def test_a_relation_is_made_once_and_within_its_limit(pair: Lab) -> None:
    with pytest.raises(ModelError) as again:
        pair.model.integrate("p:prov", "b:req")
    assert str(again.value) == BETWEEN.format("p:prov", "b:req") + (
        'cannot add relation "p:prov", "b:req": relation p:prov b:req: already exists'
    )
    pair.deploy("q")
    pair.model.integrate("p:prov", "q:lim")
    with pytest.raises(ModelError, match="q:lim would exceed its maximum relation limit of 1"):
        pair.model.integrate("b:prov", "q:lim")


def test_a_relation_that_is_not_there_is_not_removed(pair: Lab) -> None:
    with pytest.raises(ModelError) as refused:
        pair.model.remove_relation("p:prov", "b:lim")
    text = "relation with endpoints [p:prov b:lim] or id 0 not found (not found)"
    assert str(refused.value) == text
    pair.model.remove_relation("b:req", "p")
    assert pair.model.relations[2].life == "dying"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"b": "maybe"}, 'option "b" expected boolean, got "maybe"'),
        ({"i": "abc"}, 'option "i" expected int, got "abc"'),
        ({"nosuch": "1"}, 'invalid application config: unknown option "nosuch"'),
        (
            {"sec": "notasecret"},
            'invalid secret URI for option "sec": secret URI "notasecret" not valid',
        ),
    ],
)
def test_a_wrong_option_is_refused_and_changes_nothing(
    lab: Lab, values: dict[str, str], text: str
) -> None:
    lab.deploy("p")
    with pytest.raises(ModelError) as refused:
        lab.model.set_config("p", {"s": "new", **values})
    assert str(refused.value) == text
    assert lab.model.applications["p"].settings()["s"] == "hello"


def test_a_deploy_says_what_is_wrong_with_it(lab: Lab) -> None:
    where = (
        'cannot deploy "p": preparing CAAS application args: validating create application args: '
    )
    wrong: list[tuple[dict[str, Any], str]] = [
        (
            {"config": {"nosuch": 1}},
            f'{where}validating application config: unknown option "nosuch"',
        ),
        (
            {"storage": {"nosuch": "1G"}},
            f"{where}invalid storage directive overrides: "
            'storage directive "nosuch" does not exist in the charm',
        ),
        ({"resources": {"nores": "x"}}, 'unrecognized resource "nores"'),
    ]
    for given, text in wrong:
        with pytest.raises(ModelError) as refused:
            lab.deploy("p", **given)
        assert str(refused.value) == text
    with pytest.raises(ModelError) as refused:
        lab.model.deploy("Bad_Name", lab.charm)
    text = 'invalid application name "Bad_Name", unexpected uppercase character'
    assert str(refused.value) == text
    assert not lab.model.applications
    assert not lab.model.storage


def test_storage_has_the_size_and_the_number_asked_for(lab: Lab) -> None:
    lab.deploy("p", storage={"data": "64M", "extra": "2,20M"})
    found = {s.id: (s.size, s.location) for s in lab.model.storage.values()}
    assert found == {
        "data/0": (64, "/var/lib/juju/storage/data-0"),
        "extra/1": (20, "/extra/0"),
        "extra/2": (20, "/extra/1"),
    }


def test_detached_storage_is_kept_until_removed_and_can_be_attached(lab: Lab) -> None:
    lab.deploy("p")
    with pytest.raises(ModelError, match='storage "data/0" is attached to unit "p/0"'):
        lab.model.remove_storage("data/0")
    lab.model.remove_application("p")
    lab.settle()
    lab.model.deploy("p", lab.charm, attach=["data/0"])
    assert lab.model.storage["data/0"].unit == "p/0"
    lab.model.remove_application("p")
    lab.settle()
    lab.model.remove_storage("data/0")
    assert not lab.model.storage


def test_units_that_come_back_have_their_numbers_again(lab: Lab) -> None:
    lab.deploy("b", 3)
    lab.model.remove_unit("b", 2)
    lab.settle()
    lab.model.scale("b", 2)
    assert list(lab.model.applications["b"].units) == [0, 1]


def test_a_number_is_given_again_only_when_its_unit_is_gone(lab: Lab) -> None:
    lab.deploy("b", 2)
    lab.model.scale("b", 0)
    lab.model.scale("b", 2)
    assert {u.life for u in lab.model.applications["b"].units.values()} == {"dying"}
    lab.settle()
    units = lab.model.applications["b"].units
    assert [(n, u.life, u.installed) for n, u in units.items()] == [
        (0, "alive", False),
        (1, "alive", False),
    ]


def test_scale_to_nothing_breaks_the_peer_relation_of_the_last(lab: Lab) -> None:
    lab.deploy("b", 1)
    lab.model.scale("b", 0)
    assert lab.settle() == [
        "b/0 data-storage-detaching",
        "b/0 ring-relation-broken",
        "b/0 stop",
        "b/0 remove",
    ]
    lab.model.scale("b", 1)
    lab.up("b")
    assert "b/0 leader-elected" in lab.settle()


def test_force_removes_what_does_not_answer(pair: Lab) -> None:
    pair.model.pod_down("p/0")
    pair.model.remove_application("p")
    pair.settle()
    assert "p" in pair.model.applications, "its unit cannot be told"
    pair.model.remove_application("p", force=True)
    pair.settle()
    assert "p" not in pair.model.applications
    assert [r.peer for r in pair.model.relations.values()] == [True]


def test_a_refresh_keeps_what_the_new_charm_still_knows(pair: Lab) -> None:
    pair.model.set_config("b", {"s": "kept", "i": 9})
    pair.settle()
    options = {k: v for k, v in pair.charm.options.items() if k != "i"}
    newer = pair.charm.model_copy(update={"options": options, "revision": 1})
    pair.model.refresh("b", newer)
    application = pair.model.applications["b"]
    assert application.settings()["s"] == "kept"
    assert "i" not in application.settings()
    assert application.charm_modified == 1
    ends = {k: v for k, v in newer.endpoints.items() if k != "req"}
    with pytest.raises(ModelError, match='would break relation "b:req"'):
        pair.model.refresh("b", newer.model_copy(update={"endpoints": ends}))


def test_trust_is_told_as_a_change_of_configuration(lab: Lab) -> None:
    lab.deploy("p")
    lab.model.set_trust("p", True)
    assert lab.settle() == ["p/0 config-changed"]
    lab.model.set_trust("p", True)
    assert lab.settle() == []


def test_the_worst_unit_is_the_applications_status_unless_the_leader_says_otherwise(
    lab: Lab,
) -> None:
    lab.deploy("b", 3)
    application = lab.model.applications["b"]
    assert lab.model.application_status(application).current == "unknown"
    for unit, status in (("b/0", "active"), ("b/1", "waiting"), ("b/2", "blocked")):
        lab.exec(unit, f"status-set {status} {unit}")
    assert lab.model.application_status(application).message == "b/2"
    lab.exec("b/0", "status-set --application active all well")
    assert lab.model.application_status(application).message == "all well"


def test_a_unit_is_waiting_then_installing_then_unknown(lab: Lab) -> None:
    lab.model.deploy("p", lab.charm)
    unit = lab.model.find("p/0")
    assert (unit.workload.current, unit.workload.message) == ("waiting", "installing agent")
    assert unit.agent.current == "allocating"
    lab.model.pod_up("p/0", "10.1.0.1", "uid")
    lab.step("p/0")
    assert unit.workload.message == "installing charm software"
    lab.settle()
    assert (unit.workload.current, unit.agent.current) == ("unknown", "idle")


def test_what_is_not_there_is_not_found(lab: Lab) -> None:
    lab.deploy("p")
    for call, text in (
        (lambda: lab.model.find("p/9"), 'unit "p/9" not found'),
        (lambda: lab.model.application("x"), 'application "x" not found'),
        (
            lambda: lab.model.remove_application("x"),
            'removing application x failed: application "x" not found',
        ),
        (
            lambda: lab.model.run_action("p/0", "nosuch", {}),
            'action "nosuch" not defined for unit "p/0". (not found)',
        ),
        (lambda: lab.model.user_secret("x"), 'secret "x" not found'),
    ):
        with pytest.raises(ModelError) as refused:
            call()
        assert str(refused.value) == text
