"""What a charm makes in Kubernetes, what is taken away again, and what answers mean to a user."""

from collections.abc import Iterator
from typing import Any

import httpx2
import lightkube
import pytest
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Pod, ServiceAccount
from lightkube.resources.rbac_authorization_v1 import ClusterRole

from katonic import Invalid, NotYet, kubernetes
from tests import kubernetes_in_memory
from tests.kubernetes_in_memory import Cluster

CONFIG_MAP, ACCOUNT = "v1/ConfigMap", "v1/ServiceAccount"
CLUSTER_ROLE = "rbac.authorization.k8s.io/v1/ClusterRole"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    for model, application in (("lab", "notes"), ("lab", "other"), ("home", "notes")):
        cluster.deployed(model, application, {"notes": "notes:1"}, 1)
    with kubernetes_in_memory.serve(cluster):
        yield cluster


def note(name: str = "note", **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name), data=data)


def role(model: str = "lab", application: str = "notes") -> ClusterRole:
    return ClusterRole(metadata=ObjectMeta(name=f"{model}.{application}.reader"), rules=[])


def apply(
    *objects: Any, application: str = "notes", model: str = "lab", before: tuple[str, ...] = ()
) -> list[str]:
    return kubernetes.apply(application, model, objects, before)


def test_what_is_applied_is_there_and_is_the_applications_own(cluster):
    assert apply(note(text="hello")) == ["applied ConfigMap note"]
    made = cluster.applied["ConfigMap note"]
    assert made["data"] == {"text": "hello"}
    assert made["metadata"]["namespace"] == "lab"
    assert made["metadata"]["labels"] == {
        "katonic.ai/application": "notes",
        "katonic.ai/model": "lab",
    }


def test_what_is_as_it_was_is_no_change(cluster):
    apply(note(text="hello"), role())
    assert apply(note(text="hello"), role(), before=(CONFIG_MAP, CLUSTER_ROLE)) == []
    assert apply(note(text="bye"), role()) == ["applied ConfigMap note"]


def test_what_someone_else_changed_is_put_right(cluster):
    apply(note(text="hello"))
    cluster.applied["ConfigMap note"]["data"]["text"] = "by hand"
    assert apply(note(text="hello")) == ["applied ConfigMap note"]
    assert cluster.applied["ConfigMap note"]["data"] == {"text": "hello"}


def test_what_kubernetes_writes_into_an_object_is_no_change_of_ours(cluster):
    apply(note(text="hello"))
    cluster.applied["ConfigMap note"]["status"] = {"seen": True}
    assert apply(note(text="hello")) == []


def test_an_object_that_is_no_longer_wanted_is_deleted(cluster):
    apply(note("one"), note("two"))
    assert apply(note("two")) == ["deleted ConfigMap one"]
    assert cluster.find("ConfigMap", "one") is None
    assert cluster.find("ConfigMap", "two")


def test_a_kind_that_is_no_longer_wanted_is_deleted(cluster):
    apply(note(), ServiceAccount(metadata=ObjectMeta(name="reader")))
    assert apply(note(), before=(CONFIG_MAP, ACCOUNT)) == ["deleted ServiceAccount reader"]
    assert apply(before=(CONFIG_MAP,)) == ["deleted ConfigMap note"]
    assert not cluster.applied


def test_what_others_have_made_is_left(cluster):
    apply(note("theirs"), role(application="other"), application="other")
    apply(note("theirs"), role(model="home"), model="home")
    with kubernetes.client("someone", "lab") as by_hand:
        by_hand.create(note("foreign"))
    apply(note(), role())
    before = (CONFIG_MAP, CLUSTER_ROLE)
    gone = ["deleted ClusterRole lab.notes.reader", "deleted ConfigMap note"]
    assert apply(before=before) == gone
    left = {it["metadata"]["name"] for it in cluster.objects.values()}
    assert left > {"theirs", "foreign", "lab.other.reader", "home.notes.reader"}
    assert sum(it["metadata"]["name"] == "theirs" for it in cluster.objects.values()) == 2


def test_what_is_gone_already_needs_no_deleting(cluster):
    apply(note())
    listed = cluster.answer

    def vanishing(method: str, target: str, kind: str | None, body: bytes) -> Any:
        said = listed(method, target, kind, body)
        if method == "GET":
            cluster.objects.pop(("v1", "lab", "configmaps", "note"), None)
        return said

    cluster.answer = vanishing
    assert apply(before=(CONFIG_MAP,)) == ["deleted ConfigMap note"]


def test_all_of_it_goes_with_the_application(cluster):
    apply(note(), role())
    apply(note("theirs"), application="other")
    cluster.removed("lab", "notes")
    assert cluster.applied.keys() == {"ConfigMap theirs"}


def test_only_kinds_that_are_or_were_wanted_are_looked_at(cluster):
    apply(note())
    cluster.calls.clear()
    apply(note(), before=(ACCOUNT,))
    lists = {it.rpartition("/")[2] for it in cluster.calls if it.startswith("GET")}
    assert lists == {"configmaps", "serviceaccounts", "lab-notes"}


def test_a_name_that_another_model_could_have_is_refused(cluster):
    with pytest.raises(ValueError, match=r"ClusterRole reader: .* begins with lab\.notes\."):
        apply(ClusterRole(metadata=ObjectMeta(name="reader"), rules=[]))


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (403, Invalid, "run: juju trust notes --scope=cluster"),
        (409, NotYet, "kubernetes answers 409: as the test wants it"),
        (503, NotYet, "kubernetes answers 503: as the test wants it"),
    ],
)
def test_who_only_reads_is_told_the_same_as_who_writes(cluster, code, error, says):
    cluster.refuses = code
    for ask in (lambda: apply(note()), lambda: image("notes-0")):
        with pytest.raises(error) as told:
            ask()
        assert str(told.value) == says


def image(pod: str) -> str | None:
    with kubernetes.client("notes", "lab") as it:
        spec = it.get(Pod, pod).spec
    return spec.containers[0].image if spec else None


def test_a_charm_reads_its_own_pod(cluster):
    assert image("notes-0") == "notes:1"


def test_without_an_answer_it_is_waited_for():
    with (
        kubernetes_in_memory.reached_at("http://127.0.0.1:1"),
        pytest.raises(NotYet, match="kubernetes does not answer"),
    ):
        image("notes-0")


def answer(code: int) -> lightkube.ApiError:
    status = {"kind": "Status", "code": code, "message": "as the server says"}
    request = httpx2.Request("PATCH", "http://cluster.example/api")
    return lightkube.ApiError(request, httpx2.Response(code, json=status, request=request))


def test_a_refusal_is_the_users_turn_and_names_the_command():
    error = kubernetes.refusal(answer(403), "mlflow")
    assert isinstance(error, Invalid)
    assert str(error) == "run: juju trust mlflow --scope=cluster"


@pytest.mark.parametrize("code", [409, 429, 500, 503])
def test_what_heals_by_itself_is_waited_for(code):
    error = kubernetes.refusal(answer(code), "mlflow")
    assert isinstance(error, NotYet)
    assert str(error) == f"kubernetes answers {code}: as the server says"


@pytest.mark.parametrize("code", [400, 404, 422])
def test_any_other_answer_is_a_bug_and_stays_itself(code):
    error = answer(code)
    assert kubernetes.refusal(error, "mlflow") is error
