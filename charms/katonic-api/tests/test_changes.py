"""No change is lost, done by half or told of wrongly, whichever server goes away, and when."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from api_server import settings
from katonic_api import changes as module
from katonic_api import migrations
from katonic_api.changes import Change, Changes, Stale
from katonic_api.entities import Member, Organization, Project, User
from katonic_api.problems import Problem, Unavailable
from katonic_api.store import Store
from played_mongodb import Gone, MongoDB
from pymongo.errors import PyMongoError

pytestmark = pytest.mark.anyio
ADA = User(id="ada", username="ada")


def project(**more: Any) -> Project:
    owner = (Member(user="ada", role="owner"),)
    said = {"id": "p", "name": "demo", "organization": "default", "created_by": "ada"}
    return Project(**{**said, "members": owner, **more})


@dataclass
class Lab:
    """A database, and servers of it."""

    mongodb: MongoDB
    store: Store

    def server(self) -> Changes:
        return Changes(self.store)

    async def found(self) -> Project | None:
        return await self.store.find(Project, "p")

    async def project(self) -> Project:
        found = await self.found()
        assert found
        return found

    def actions(self) -> list[str]:
        return [it["action"] for it in self.mongodb.documents("audit")]

    def age(self) -> None:
        """Have what is in the journal be a minute old."""
        for it in self.mongodb.documents("journal"):
            it["entry"]["time"] -= timedelta(minutes=1)

    def fail_at(self, number: int, when: str = "before") -> None:
        """Have the database go away before or after it does this command, and be there again."""
        count = 0

        def fail(command: str) -> None:
            nonlocal count
            count += 1
            if count == number:
                raise Gone

        setattr(self.mongodb, when, fail)

    def heal(self) -> None:
        self.mongodb.before = self.mongodb.after = lambda command: None


@contextlib.asynccontextmanager
async def lab() -> AsyncIterator[Lab]:
    mongodb = MongoDB()
    async with mongodb.serve() as url:
        store = Store(settings(f"{url}?retryReads=false"))
        async with store.client:
            await migrations.migrate(store)
            yield Lab(mongodb, store)


async def test_a_change_is_there_once_it_is_made_and_so_is_its_entry():
    async with lab() as it:
        before = await it.store.revision()
        made = await it.server().make(Change(None, project(), ADA, "project.create"))
        assert made.version == 1
        assert await it.project() == made
        assert it.actions() == ["project.create"]
        assert await it.store.revision() != before
        assert not it.mongodb.documents("journal")


async def test_of_changes_of_the_same_version_one_is_made():
    async with lab() as it:
        made = await it.server().make(Change(None, project(), ADA, "project.create"))

        async def rename(number: int) -> bool:
            after = made.having(name=f"demo-{number}")
            try:
                await it.server().make(Change(made, after, ADA, "project.update"))
            except Stale:
                return False
            return True

        assert sum(await asyncio.gather(*(rename(it) for it in range(20)))) == 1
        assert it.actions() == ["project.create", "project.update"]
        assert (await it.project()).version == 2


async def test_of_makings_of_the_same_thing_one_is_made():
    async with lab() as it:

        async def make() -> bool:
            try:
                await it.server().make(Change(None, project(), ADA, "project.create"))
            except Stale:
                return False
            return True

        assert sum(await asyncio.gather(*(make() for _ in range(10)))) == 1


async def test_changes_that_may_follow_each_other_all_are_made():
    async with lab() as it:
        await it.server().make(Change(None, project(), ADA, "project.create"))

        async def add(number: int) -> None:
            def revise(old: Project) -> Change[Project]:
                member = Member(user=f"u{number}", role="viewer")
                after = old.having(members=(*old.members, member))
                return Change(old, after, ADA, "project.add-member")

            await it.server().revise(Project, "p", revise)

        await asyncio.gather(*(add(number) for number in range(5)))
        assert len((await it.project()).members) == 6


async def test_a_name_is_anothers_and_nothing_is_left_of_the_attempt():
    async with lab() as it:
        await it.server().make(Change(None, project(), ADA, "project.create"))
        with pytest.raises(Problem) as caught:
            await it.server().make(Change(None, project(id="q"), ADA, "project.create"))
        assert caught.value.status == 409
        other = Change(None, project(id="q", name="other"), ADA, "project.create")
        made = await it.server().make(other)
        with pytest.raises(Problem, match="demo is taken"):
            await it.server().make(Change(made, made.having(name="demo"), ADA, "project.update"))
        assert it.actions() == ["project.create", "project.create"]
        assert not it.mongodb.documents("journal")


async def test_the_same_name_is_free_in_another_organization():
    async with lab() as it:
        await it.server().make(Change(None, project(), ADA, "project.create"))
        other = project(id="q", organization="other")
        assert await it.server().make(Change(None, other, ADA, "project.create"))


async def test_what_is_gone_cannot_be_deleted_again():
    async with lab() as it:
        made = await it.server().make(Change(None, project(), ADA, "project.create"))
        gone = Change(made, None, ADA, "project.delete")
        await it.server().make(gone)
        with pytest.raises(Stale):
            await it.server().make(gone)
        assert it.actions() == ["project.create", "project.delete"]


MAKING = Change(None, project(), ADA, "project.create")


async def before_of(it: Lab, what: str) -> Project | None:
    return None if what == "create" else await it.server().make(MAKING)


def change_of(before: Project | None, what: str) -> Change[Project]:
    if before is None:
        return MAKING
    after = before.having(name="renamed") if what == "update" else None
    return Change(before, after, ADA, f"project.{what}")


@pytest.mark.parametrize("what", ["create", "update", "delete"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 8))
async def test_a_server_that_goes_away_at_any_point_leaves_all_or_nothing(what, when, number):
    async with lab() as it:
        before = await before_of(it, what)
        entries = len(it.actions())
        it.fail_at(number, when)
        try:
            await it.server().make(change_of(before, what))
            acknowledged = True
        except PyMongoError:
            acknowledged = False
        it.heal()
        it.age()
        revision = await it.store.revision()
        begun = bool(it.mongodb.documents("journal"))
        await it.server().heal()
        after = await it.found()
        done = {
            "create": after is not None,
            "update": after is not None and after.name == "renamed",
            "delete": after is None,
        }[what]
        assert done == (acknowledged or begun)
        assert len(it.actions()) == entries + done
        assert not it.mongodb.documents("journal")
        assert not begun or await it.store.revision() != revision


@pytest.mark.parametrize("number", range(1, 8))
async def test_who_comes_next_finishes_what_was_begun_before_his_own(number):
    async with lab() as it:
        before = await it.server().make(MAKING)
        it.fail_at(number)
        with contextlib.suppress(PyMongoError):
            await it.server().make(change_of(before, "update"))
        it.heal()
        it.age()

        def revise(old: Project) -> Change[Project]:
            return Change(old, old.having(description="mine"), ADA, "project.update")

        made = await it.server().revise(Project, "p", revise)
        assert made.description == "mine"
        assert await it.project() == made
        updates = it.actions().count("project.update")
        assert updates == (2 if made.name == "renamed" else 1)


async def test_who_finishes_what_is_finished_by_its_own_server_too_does_no_harm():
    async with lab() as it:
        before = await it.server().make(MAKING)

        def meanwhile(command: str) -> None:
            if command == "insert audit":
                it.age()

        it.mongodb.before = meanwhile
        mine, others = it.server(), it.server()
        made, _ = await asyncio.gather(
            mine.make(change_of(before, "update")), others.heal(), return_exceptions=True
        )
        await others.heal()
        assert made == await it.project()
        assert it.actions() == ["project.create", "project.update"]


async def test_what_somebody_is_changing_for_long_is_said_to_be_busy(monkeypatch):
    monkeypatch.setattr(module, "_PAUSES", (0.01, 0.01))
    async with lab() as it:
        before = await it.server().make(MAKING)
        it.fail_at(2)
        with pytest.raises(PyMongoError):
            await it.server().make(change_of(before, "update"))
        it.heal()
        with pytest.raises(Unavailable) as caught:
            await it.server().make(change_of(before, "update"))
        assert caught.value.headers["Retry-After"]


async def test_details_are_kept_with_the_entry():
    async with lab() as it:
        change = Change(None, project(), ADA, "project.create", {"user": "bob"})
        await it.server().make(change)
        (entry,) = it.mongodb.documents("audit")
        assert entry["actor"] == {"id": "ada", "username": "ada"}
        assert entry["entity"] == {"kind": "project", "id": "p", "name": "demo"}
        assert (entry["organization"], entry["project"]) == ("default", "p")
        assert entry["details"] == {"user": "bob"}


async def test_the_database_is_migrated_once():
    mongodb = MongoDB()
    async with mongodb.serve() as url:
        store = Store(settings(url))
        async with store.client:
            assert await migrations.migrate(store) == [1, 2]
            assert await migrations.migrate(store) == []
            assert await store.find(Organization, "default")


@pytest.mark.parametrize("number", range(1, 25))
async def test_a_migration_that_broke_off_is_made_again(number):
    async with lab() as it:
        it.mongodb.collections.clear()
        it.fail_at(number)
        with contextlib.suppress(PyMongoError):
            await migrations.migrate(it.store)
        it.heal()
        await migrations.migrate(it.store)
        assert await migrations.version(it.store) == migrations.VERSION
        assert len(it.mongodb.documents("organizations")) == 1
