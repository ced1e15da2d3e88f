"""A bundle is read as `juju deploy` reads it (the contract's section 6)."""

import shutil
from pathlib import Path

import pytest
from lab import PROBE

from sandbox.bundle import BundleError, changes, read_bundle, untrusted
from sandbox.charm import read_charm
from sandbox.model import Model

OK = """
bundle: kubernetes
description: d
applications:
  aa:
    charm: ./probe
    scale: 2
    trust: true
    options: {s: from-bundle, i: 3}
    resources: {c1-image: one, c2-image: two}
    constraints: mem=70M tags=^x=y
    storage: {data: 20M}
    annotations: {gui-x: "1"}
  bb:
    charm: ./probe
    num_units: 1
    resources: {c1-image: one}
relations:
- [aa:prov, bb:req]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(PROBE, tmp_path / "probe")
    return tmp_path


def texts(folder: Path, bundle: str, *overlays: str, model: Model | None = None) -> list[str]:
    paths = [folder / f"{number}.yaml" for number in range(1 + len(overlays))]
    for path, text in zip(paths, (bundle, *overlays), strict=True):
        path.write_text(text)
    read, _ = read_bundle(paths[0], paths[1:])
    found = changes(read, model or Model("m", "u"))
    return [it.text.replace(str(folder), "") for it in found]


def deployed(folder: Path) -> Model:
    """Do what the bundle's changes say."""
    (folder / "0.yaml").write_text(OK)
    model = Model("m", "u")
    for change in changes(read_bundle(folder / "0.yaml")[0], model):
        given = dict(change.arguments)
        if change.verb == "deploy":
            charm, name = read_charm(Path(given.pop("charm"))), given.pop("name")
            del given["complete"]
            model.deploy(name, charm, **given)
        elif change.verb == "annotate":
            model.applications[given["name"]].annotations.update(given["annotations"])
        elif change.verb == "integrate":
            model.integrate(**given)
    return model


def test_a_bundle_is_deployed_in_alphabetical_order_and_related_last(folder: Path) -> None:
    assert texts(folder, OK) == [
        "upload charm /probe for base ubuntu@24.04/stable",
        "deploy application aa with 2 units on ubuntu@24.04/stable",
        "set annotations for aa",
        "deploy application bb with 1 unit on ubuntu@24.04/stable",
        "add relation aa:prov - bb:req",
    ]


def test_an_overlay_changes_keys_and_adds_applications_and_relations(folder: Path) -> None:
    overlay = """
applications:
  bb: {options: {s: from-overlay}, scale: 3}
  aa: {constraints: mem=80M, resources: {c2-image: other}}
  cc: {charm: ./probe, scale: 1}
relations:
- [cc:req, aa:prov]
"""
    shown = texts(folder, OK, overlay)
    assert "deploy application bb with 3 units on ubuntu@24.04/stable" in shown
    assert shown[-2:] == ["add relation aa:prov - bb:req", "add relation cc:req - aa:prov"]
    read, _ = read_bundle(folder / "0.yaml", [folder / "1.yaml"])
    assert read.applications["aa"].constraints == "mem=80M"
    assert read.applications["aa"].resources == {"c1-image": "one", "c2-image": "other"}
    assert read.applications["bb"].options == {"s": "from-overlay"}


def test_an_overlay_takes_an_application_away_with_its_relations(folder: Path) -> None:
    shown = texts(folder, OK, "applications: {bb: null}")
    assert not any("bb" in it for it in shown)


def test_an_overlays_charm_is_relative_to_the_overlay(folder: Path) -> None:
    (folder / "overlays").mkdir()
    (folder / "0.yaml").write_text(OK.replace("./probe", "./dist/nosuch.charm"))
    overlay = "applications: {aa: {charm: ../probe}, bb: {charm: ../probe}}"
    (folder / "overlays/o.yaml").write_text(overlay)
    read, _ = read_bundle(folder / "0.yaml", [folder / "overlays/o.yaml"])
    assert read.applications["aa"].charm == str(folder / "probe")


def test_a_bundle_that_is_deployed_changes_nothing(folder: Path) -> None:
    assert texts(folder, OK, model=deployed(folder)) == []


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("scale: 2", "scale: 3", "scale aa to 3 units"),
        ("i: 3", "i: 4", "set application options for aa"),
        ("mem=70M", "mem=90M", 'set constraints for aa to "mem=90M tags=^x=y"'),
        ("c2-image: two", "c2-image: three", "upload resource c2-image for aa"),
        ("aa:prov, bb:req", "aa:prov, bb:lim", "add relation aa:prov - bb:lim"),
    ],
)
def test_what_has_changed_in_a_bundle_is_changed(
    folder: Path, old: str, new: str, text: str
) -> None:
    assert texts(folder, OK.replace(old, new), model=deployed(folder)) == [text]


def test_a_charm_with_other_content_is_refreshed(folder: Path) -> None:
    model = deployed(folder)
    read, _ = read_bundle(folder / "0.yaml")
    found = changes(read, model, lambda path: "/cache/0123456789abcdef.charm")
    assert [it.verb for it in found] == ["", "refresh", "refresh"]


def test_trust_must_be_consented_to(folder: Path) -> None:
    (folder / "0.yaml").write_text(OK)
    assert untrusted(read_bundle(folder / "0.yaml")[0]) == (
        "Bundle cannot be deployed without trusting applications with your cloud credentials.\n"
        "Please repeat the deploy command with the --trust argument if you consent to trust the "
        "following application(s):\n  - aa"
    )


def test_keys_that_nobody_knows_are_warned_about(folder: Path) -> None:
    (folder / "0.yaml").write_text(OK.replace("    trust: true", "    bogus: 1") + "name: x\n")
    _, (warning,) = read_bundle(folder / "0.yaml")
    assert warning == (
        "These fields\n unmarshal document 0: yaml: unmarshal errors:\n"
        "  line 8: field bogus not found in applications\n"
        "  line 20: field name not found in type charm.bundleData\n"
        "will be ignored during deployment"
    )


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "bb:req]",
            "zz:req]",
            'relation ["aa:prov" "zz:req"] refers to application "zz" not defined',
        ),
        (", bb:req]", "]", 'relation ["aa:prov"] has 1 endpoint(s), not 2'),
        ("bb:req]", "bb:req, bb:lim]", "has 3 endpoint(s), not 2"),
        ("mem=70M", "foo=1", 'in application "aa": unknown constraint "foo"'),
        ("mem=70M", "mem=abc", 'bad "mem" constraint: must be a non-negative float'),
        (
            "charm: ./probe",
            "charm: ./nosuch.charm",
            'charm path in application "aa" does not exist',
        ),
        ("charm: ./probe", "charm: ./", "is a directory"),
        ("charm: ./probe", "charm: nosuch", 'cannot resolve charm or bundle "nosuch"'),
        (
            "scale: 2",
            "scale: 1\n    num_units: 2",
            'both scale and num_units for application "aa"',
        ),
        ("bundle: kubernetes", "machines: {'0': {}}", "bundle machines not valid for Kubernetes"),
        ("scale: 2", "to: [k=v]", "placement is not valid in a Kubernetes bundle"),
        (
            "scale: 2",
            "scale: [",
            "cannot unmarshal bundle contents: unmarshal document 0: yaml: line",
        ),
        ("scale: 2", "scale: many", "cannot unmarshal bundle contents: unmarshal document 0: "),
    ],
)
def test_a_wrong_bundle_is_refused_before_anything_is_made(
    folder: Path, old: str, new: str, text: str
) -> None:
    (folder / "0.yaml").write_text(OK.replace(old, new, 1))
    with pytest.raises(BundleError) as refused:
        read_bundle(folder / "0.yaml")
    assert text in str(refused.value)


def test_an_empty_bundle_is_refused(folder: Path) -> None:
    (folder / "0.yaml").write_text("")
    with pytest.raises(BundleError, match="bundle is empty not valid"):
        read_bundle(folder / "0.yaml")
