"""What Kubernetes answers, told to a user."""

import httpx2
import lightkube
import pytest

from katonic import Invalid, NotYet, kubernetes


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
