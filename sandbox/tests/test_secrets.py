"""Secrets, as in the contract's section 2.11."""

import pytest
from lab import Lab, of

from sandbox.events import environment
from sandbox.hooktools import HookContext


def added(lab: Lab, unit: str = "b/0", more: str = "--label L") -> str:
    """Add a secret in a hook of its own and return its id."""
    return lab.out(unit, f"secret-add user=abc password=one {more}").rpartition("/")[2]


def shared(lab: Lab) -> str:
    """Add a secret of b and grant it to p."""
    secret = added(lab)
    lab.exec("b/0", f"secret-grant {secret} -r req:2")
    return secret


def test_a_secret_is_readable_in_the_hook_that_adds_it(pair: Lab) -> None:
    results = pair.exec("b/0", "secret-add abc=one --label L", "secret-get --label L")
    assert results[0].stdout.startswith(f"secret://{pair.model.uuid}/")
    assert results[1].stdout == "abc: one\n"


def test_nobody_else_reads_it_before_the_grant(pair: Lab) -> None:
    secret = added(pair)
    refused = 'ERROR "p/0" is not allowed to read this secret'
    assert pair.out("p/0", f"secret-get {secret}") == refused
    pair.exec("b/0", f"secret-grant {secret} -r req:2")
    assert pair.out("p/0", f"secret-get {secret} password") == "one"
    pair.exec("b/0", f"secret-revoke {secret} -r req:2")
    assert pair.out("p/0", f"secret-get {secret}") == refused


def test_a_grant_may_be_for_one_unit(pair: Lab) -> None:
    secret = pair.out("p/0", "secret-add abc=one").rpartition("/")[2]
    pair.exec("p/0", f"secret-grant {secret} -r prov:2 --unit b/1")
    assert pair.out("b/1", f"secret-get {secret} abc") == "one"
    assert "not allowed" in pair.out("b/0", f"secret-get {secret}")
    assert (
        pair.out("p/0", f"secret-grant {secret} -r prov:2 --unit zz/0")
        == 'ERROR cannot specify unit "zz/0" in relation to application "b"'
    )


def test_a_grant_ends_with_its_relation(pair: Lab) -> None:
    secret = shared(pair)
    assert pair.out("p/0", f"secret-get {secret} password") == "one"
    pair.model.remove_relation("p:prov", "b:req")
    pair.settle()
    assert "not allowed" in pair.out("p/0", f"secret-get {secret}")


def test_a_consumer_names_a_secret_by_its_own_label(pair: Lab) -> None:
    secret = shared(pair)
    assert pair.out("p/0", f"secret-get {secret} --label C").endswith("user: abc")
    assert pair.out("p/0", "secret-get --label C") == "password: one\nuser: abc"
    unknown = 'ERROR secret URI for consumer label "C" not found'
    assert pair.out("b/1", "secret-get --label C") == unknown


def test_only_those_who_have_read_it_are_told_of_a_change(pair: Lab) -> None:
    secret = shared(pair)
    pair.exec("p/0", f"secret-get {secret} --label C")
    pair.exec("b/1", "secret-get --label L")
    pair.exec("b/0", f"secret-set {secret} user=abc password=two")
    told = [f"b/1 secret-changed {secret} L", f"p/0 secret-changed {secret} C"]
    pair.settle()
    seen = [(u, e) for u, e in pair.told if e.kind == "secret-changed"]
    assert sorted(f"{u} {e.kind} {e.secret_id} {e.secret_label}" for u, e in seen) == told
    unit, event = next(it for it in seen if it[0] == "p/0")
    variables = environment(pair.model, pair.model.find(unit), event)
    assert variables["JUJU_SECRET_ID"] == f"secret:{secret}"
    assert variables["JUJU_SECRET_LABEL"] == "C"


def test_a_consumer_keeps_its_revision_until_it_refreshes(pair: Lab) -> None:
    secret = shared(pair)
    pair.exec("p/0", f"secret-get {secret}")
    pair.exec("b/0", f"secret-set {secret} user=abc password=two")
    shown = [
        pair.out("p/0", f"secret-get {secret} password{flag}")
        for flag in ("", " --peek", "", " --refresh", "")
    ]
    assert shown == ["one", "two", "one", "two", "two"]
    assert pair.out("b/0", f"secret-get {secret} password") == "two"


def test_the_same_content_is_no_change(pair: Lab) -> None:
    secret = shared(pair)
    pair.exec("p/0", f"secret-get {secret}")
    pair.exec("b/0", f"secret-set {secret} user=abc password=one")
    assert pair.settle() == []
    assert pair.model.secrets[secret].latest == 1


def test_new_content_is_not_seen_in_the_hook_that_sets_it(pair: Lab) -> None:
    secret = added(pair)
    _, seen = pair.exec(
        "b/0", f"secret-set {secret} abc=two", f"secret-get {secret} --refresh password"
    )
    assert seen.stdout == "one\n"
    assert pair.out("b/0", f"secret-get {secret} abc") == "two"


def test_the_leader_is_told_when_nobody_uses_a_revision_any_more(pair: Lab) -> None:
    secret = shared(pair)
    for unit in ("p/0", "b/1"):
        pair.exec(unit, f"secret-get {secret}")
    pair.exec("b/0", f"secret-set {secret} abc=two")
    pair.settle()
    pair.exec("p/0", f"secret-get {secret} --refresh")
    assert pair.settle() == []
    pair.exec("b/1", f"secret-get {secret} --refresh")
    assert pair.settle() == ["b/0 secret-remove"]
    event = pair.told[-1][1]
    assert (event.secret_revision, event.secret_id) == (1, secret)
    variables = environment(pair.model, pair.model.find("b/0"), event)
    assert variables["JUJU_SECRET_ID"] == secret
    assert variables["JUJU_SECRET_REVISION"] == "1"
    assert 1 in pair.model.secrets[secret].revisions, "it stays until the charm removes it"
    pair.exec("b/0", f"secret-remove {secret} --revision 1")
    assert list(pair.model.secrets[secret].revisions) == [2]


def test_a_unit_that_goes_away_uses_no_revision(pair: Lab) -> None:
    secret = shared(pair)
    pair.exec("b/2", "secret-get --label L")
    pair.exec("b/0", f"secret-set {secret} abc=two")
    pair.settle()
    pair.model.scale("b", 2)
    assert "b/0 secret-remove" in pair.settle()


def test_a_removed_secret_is_gone_for_all_and_nobody_is_told(pair: Lab) -> None:
    secret = shared(pair)
    pair.exec("p/0", f"secret-get {secret}")
    pair.exec("b/0", f"secret-remove {secret}")
    assert pair.settle() == []
    gone = "ERROR getting latest secret revision: secret not found"
    assert pair.out("p/0", f"secret-get {secret}") == gone


def test_a_follower_reads_its_applications_secret_but_does_not_manage_it(pair: Lab) -> None:
    secret = added(pair)
    assert pair.out("b/1", "secret-get --label L").startswith("password: one")
    assert pair.out("b/1", "secret-ids") == ""
    assert pair.out("b/1", "secret-ids --format json") == "null"
    assert pair.out("b/1", f"secret-info-get {secret}") == f'ERROR secret "{secret}" not found'
    refused = 'ERROR "b/1" is not allowed to manage this secret'
    for command in ("set {} abc=x", "remove {}", "grant {} -r req:2", "revoke {} -r req:2"):
        assert pair.out("b/1", f"secret-{command.format(secret)}") == refused
    leader = "ERROR this unit is not the leader"
    assert pair.out("b/1", "secret-add abc=one") == leader


def test_a_units_own_secret_is_not_its_leaders(pair: Lab) -> None:
    secret = added(pair, "b/1", "--owner unit")
    assert pair.out("b/1", f"secret-get {secret} user") == "abc"
    assert "not allowed to read" in pair.out("b/0", f"secret-get {secret}")


def test_a_second_secret_of_the_same_label_fails_the_hook_when_it_ends(pair: Lab) -> None:
    added(pair)
    said = pair.hook("b/0", "config-changed", "secret-add abc=one --label L", "state-set k=v")
    pair.model.set_config("b", {"s": "new"})
    pair.settle()
    assert [it.code for it in said] == [0, 0]
    unit = pair.model.find("b/0")
    assert pair.model.unit_status(unit).current == "error"
    assert unit.state == {}, "all that the hook wrote is dropped"
    assert len(pair.model.secrets) == 1
    assert any('secret with label "L" already exists' in line for line in pair.log)


def test_an_expired_secret_is_told_once_and_again_after_a_restart(pair: Lab) -> None:
    secret = added(pair, more="--expire 20s")
    assert pair.model.next_time() is not None
    pair.now += 20
    assert of("b/0", pair.settle()) == ["secret-expired"]
    assert pair.told[-1][1].secret_revision == 1
    assert pair.settle() == []
    assert pair.out("b/0", f"secret-get {secret} user") == "abc"
    pair.model.pod_down("b/0")
    pair.pod("b/0", "another")
    assert "secret-expired" in of("b/0", pair.settle())


def test_a_secret_to_rotate_is_told_each_time(pair: Lab) -> None:
    secret = added(pair, more="--rotate hourly --label L")
    for _ in range(2):
        assert pair.settle() == []
        pair.now += 3600
        told = pair.settle()
        assert told == ["b/0 secret-rotate"]
    info = pair.out("b/0", f"secret-info-get {secret} --format json")
    assert '"rotation":"hourly"' in info
    assert '"rotates":"' in info


def test_a_users_secret_is_read_by_those_it_is_granted_to(pair: Lab) -> None:
    secret = pair.model.add_secret("mysec", {"abc": "one"})
    assert "not allowed" in pair.out("p/0", f"secret-get {secret.id}")
    pair.model.grant_secret("mysec", ["p"])
    assert pair.out("p/0", f"secret-get secret:{secret.id} abc") == "one"
    pair.model.update_secret("mysec", {"abc": "two"})
    assert pair.settle() == ["p/0 secret-changed"], "not the unit that was refused"
    pair.model.remove_secret("mysec")
    assert pair.out("p/0", f"secret-get {secret.id}").endswith("secret not found")


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("secret-add", "missing secret value or filename"),
        ("secret-add a=b", 'key "a" not valid'),
        ("secret-add AB=1", 'key "AB" not valid'),
        ("secret-add 9ab=1", 'key "9ab" not valid'),
        ("secret-add a_bc=1", 'key "a_bc" not valid'),
        ("secret-add abc-=1", 'key "abc-" not valid'),
        ("secret-add noeq", 'key value "noeq" not valid'),
        ("secret-add --rotate sometimes abc=1", 'rotate policy "sometimes" not valid'),
        ("secret-add --expire yesterday abc=1", 'expire time or duration "yesterday" not valid'),
        ("secret-add --expire 2030-01-01 abc=1", 'expire time or duration "2030-01-01" not valid'),
        ("secret-add --expire=-1h abc=1", 'negative expire duration "-1h" not valid'),
        ("secret-add --owner nobody abc=1", 'secret owner "nobody" not valid'),
        ("secret-get notanid", 'secret URI "notanid" not valid'),
        ("secret-get", "require either a secret URI or label"),
        ("secret-get x --peek --refresh", "specify one of --peek or --refresh but not both"),
        ("secret-grant d0000000000000000000", "no relation id specified"),
    ],
)
def test_a_call_that_is_wrong_in_itself_says_why(pair: Lab, command: str, text: str) -> None:
    (result,) = pair.exec("b/0", command)
    assert (result.code, result.stderr) == (2, f"ERROR {text}\n")


def test_a_key_may_be_given_in_base64_and_an_expiry_as_a_time(pair: Lab) -> None:
    secret = pair.out("b/0", "secret-add abc#base64=aGVsbG8= --expire 2030-01-01T00:00:00")
    assert pair.out("b/0", f"secret-get {secret} abc") == "hello"
    info = pair.out("b/0", f"secret-info-get {secret} --format json")
    assert '"expiry":"2030-01-01T00:00:00Z"' in info


def test_what_is_known_of_a_secret_names_who_may_read_it(pair: Lab) -> None:
    secret = shared(pair)
    info = pair.out("b/0", f"secret-info-get {secret} --format json")
    assert info == (
        f'{{"{secret}":{{"revision":1,"label":"L","owner":"application","rotation":"never",'
        '"access":[{"target":"application-p","scope":"relation-b.req#p.prov","role":"view"}]}}'
    )


def test_a_secret_added_and_changed_in_one_hook_has_one_revision(pair: Lab) -> None:
    event = pair.model.exec("b/0", "").id
    due = pair.model.next_event("b/0")
    assert due is not None
    assert due.task == event
    context = HookContext(pair.model, "b/0", due)
    secret = context.run(["secret-add", "abc=one", "--label", "L1"]).stdout.strip()
    context.run(["secret-set", secret, "abc=two", "--label", "L2"])
    assert context.run(["secret-get", "--label", "L1"]).code == 1
    assert context.run(["secret-get", "--label", "L2"]).stdout == "abc: two\n"
    assert context.run(["secret-get", secret, "abc"]).stdout == "two\n"
    assert context.finish(0) == ""
    (kept,) = pair.model.secrets.values()
    assert (kept.latest, kept.label) == (1, "L2")
