"""More than one unit of all that serves people: pods go, and whoever works does not notice."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2
import pytest
from deployed import Platform, eventually
from people import Accounts
from people import Person as Caller
from playwright.sync_api import Error, expect
from visitors import Person

UNITS = {"katonic-api": 3, "katonic-ui": 3, "istio-ingress": 2}
PODS = {"katonic-api": 3, "katonic-ui": 3, "istio-ingress-gateway": 2}
"""How many pods serve, by application."""


@dataclass
class Requests:
    """What a program asks on and on; an answer that fails is asked for once more.

    Attributes:
        acknowledged: What the platform has said that it did.
        repeated: What failed the first time, and was answered the second.
        failures: What failed twice.
    """

    client: httpx2.Client
    ask: Callable[[httpx2.Client, int], httpx2.Response]
    name: Callable[[int], str]
    ended: threading.Event = field(default_factory=threading.Event)
    acknowledged: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Ask until told to end."""
        number = 0
        while not self.ended.is_set():
            number += 1
            first = self._failure(number)
            if first:
                second = self._failure(number)
                (self.failures if second else self.repeated).append(f"{first}; {second}")
                if second:
                    continue
            self.acknowledged.append(self.name(number))
            time.sleep(0.05)

    def _failure(self, number: int) -> str:
        try:
            answer = self.ask(self.client, number)
        except httpx2.TransportError as error:
            return f"{time.strftime('%X')} {self.name(number)}: {error!r}"
        done = answer.status_code in (200, 201)
        return "" if done else f"{self.name(number)}: {answer.status_code} {answer.text[:200]}"


@contextmanager
def under_way(requests: list[Requests]) -> Iterator[None]:
    """Have the programs ask for as long as the context lasts."""
    threads = [threading.Thread(target=it.run) for it in requests]
    for it in threads:
        it.start()
    try:
        yield
    finally:
        for it in requests:
            it.ended.set()
        for it in threads:
            it.join()


@pytest.fixture(scope="module")
def many(platform: Platform) -> Iterator[Platform]:
    """Yield the platform with more than one unit of each."""
    for application, number in UNITS.items():
        platform.juju.cli("scale-application", application, str(number))
    eventually(lambda: all(ready(platform, it, number) for it, number in PODS.items()), 300)
    platform.settle(*UNITS)
    yield platform
    for application in UNITS:
        platform.juju.cli("scale-application", application, "1")
    eventually(lambda: all(len(pods(platform, it)) == 1 for it in PODS), 300)
    platform.settle(*UNITS)


def pods(platform: Platform, application: str) -> dict[str, str]:
    """Return the uids of an application's pods, by name, those that are going not among them."""
    template = (
        "{range .items[*]}{.metadata.name} {.metadata.uid} {.metadata.deletionTimestamp}"
        "{'\\n'}{end}"
    ).replace("'", '"')
    label = f"app.kubernetes.io/name={application}"
    said = platform.kubectl("get", "pods", "-l", label, "-o", f"jsonpath={template}")
    words = [it.split() for it in said.splitlines()]
    return {it[0]: it[1] for it in words if len(it) == 2}


def ready(platform: Platform, application: str, number: int) -> bool:
    """Return whether so many pods of an application are ready."""
    path = (
        '{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}'
        "{.metadata.deletionTimestamp} {end}"
    )
    label = f"app.kubernetes.io/name={application}"
    said = platform.kubectl("get", "pods", "-l", label, "-o", f"jsonpath={path}")
    return said.split() == ["True"] * number


@pytest.fixture(scope="module")
def caller(platform: Platform) -> Iterator[Callable[[], Caller]]:
    """Yield what returns somebody whose token is good."""
    accounts = Accounts(platform)
    person = accounts.person(f"writer-{secrets.token_hex(3)}", platform_admin=True)
    yield lambda: accounts.anew(person)
    accounts.remove()


@pytest.fixture
def program(platform: Platform, url: str) -> Iterator[Callable[[], httpx2.Client]]:
    """Yield what makes clients of the platform's address, each with connections of its own."""
    gateway = platform.kubectl(
        "get", "service", "istio-ingress-gateway", "-o", "jsonpath={.spec.clusterIP}"
    )
    made: list[httpx2.Client] = []

    host = url.removeprefix("https://")

    def tell(request: httpx2.Request) -> None:
        request.extensions = {**request.extensions, "sni_hostname": host}

    def client() -> httpx2.Client:
        it = httpx2.Client(
            base_url=f"https://{gateway}",
            headers={"Host": host},
            verify=False,
            timeout=30,
            event_hooks={"request": [tell]},
        )
        made.append(it)
        return it

    yield client
    for it in made:
        it.close()


def test_pods_go_one_by_one_and_nobody_who_works_notices(
    many: Platform,
    arrive: Callable[..., Person],
    caller: Callable[[], Caller],
    program: Callable[[], httpx2.Client],
    capsys: pytest.CaptureFixture[str],
):
    visitor = arrive(f"vera-{secrets.token_hex(3)}")
    visitor.sign_in()
    prefix = f"w{secrets.token_hex(4)}"
    organization = caller()("POST", "/v1/organizations", {"name": prefix}).json["id"]

    def name(number: int) -> str:
        return f"{prefix}-{number}"

    def create(client: httpx2.Client, number: int) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {caller().token}", "Idempotency-Key": name(number)}
        body = {"name": name(number), "organization": organization}
        return client.post("/api/v1/projects", json=body, headers=headers)

    session = {"Cookie": f"__Host-session={session_of(visitor)}"}

    def look(client: httpx2.Client, number: int) -> httpx2.Response:
        # A redirect is a failure too: it leads to the sign-in.
        return client.get("/projects", headers=session)

    writes = Requests(program(), create, name)
    looks = Requests(program(), look, lambda number: f"look {number}")
    visits, again = 0, []
    with under_way([writes, looks]):
        for application, number in PODS.items():
            for pod, uid in sorted(pods(many, application).items()):
                before = len(writes.acknowledged), len(looks.acknowledged)
                many.kubectl("delete", "pod", pod, "--wait=false")

                def healed(application: str = application, uid: str = uid) -> bool:
                    left = pods(many, application)
                    return uid not in left.values()

                while not healed() or not ready(many, application, number):
                    visits += 1
                    again += visit(visitor, ("/", "/projects", "/account")[visits % 3])
                assert len(writes.acknowledged) > before[0]
                assert len(looks.acknowledged) > before[1]
    with capsys.disabled():
        print(
            f"\n{len(writes.acknowledged)} writes, {len(looks.acknowledged)} looks, {visits} "
            f"visits; asked for twice: {writes.repeated + looks.repeated + again}"
        )
    assert not writes.failures
    assert not looks.failures
    assert visits > len(UNITS)
    kept = list(projects(program(), caller(), organization))
    assert len(kept) == len(set(kept))
    assert set(writes.acknowledged) <= set(kept)
    expect(visitor.visit("/account").get_by_role("heading", name="Account")).to_be_visible()


def session_of(visitor: Person) -> str:
    """Return the cookie that somebody's session is known by."""
    (session,) = (it for it in visitor.context.cookies() if it.get("name") == "__Host-session")
    return str(session.get("value"))


def visit(visitor: Person, path: str) -> list[str]:
    """Go to a page and be there, still signed in; return what failed the first time."""
    failed = []
    for _ in range(2):
        try:
            answer = visitor.page.goto(f"{visitor.url}{path}")
        except Error as error:
            failed.append(f"{path}: {error.message}")
            continue
        assert visitor.page.url == f"{visitor.url}{path}"
        if answer and answer.status == 200:
            return failed
        failed.append(f"{path}: {answer and answer.status}")
    pytest.fail(f"twice: {failed}")


def projects(client: httpx2.Client, caller: Caller, organization: str) -> Iterator[str]:
    """Yield the names of an organization's projects."""
    cursor = None
    while True:
        query = {"organization": organization, "limit": "200"}
        query |= {"cursor": cursor} if cursor else {}
        headers = {"Authorization": f"Bearer {caller.token}"}
        page = client.get("/api/v1/projects", params=query, headers=headers).json()
        yield from (it["name"] for it in page["items"])
        cursor = page.get("next")
        if not cursor:
            return
