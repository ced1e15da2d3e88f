"""Hook tools print what Juju 4.0.14's were seen to print (the contract's section 4)."""

import json

import pytest
import yaml
from lab import Lab

from sandbox.hooktools import HookContext


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("is-leader", "True"),
        ("is-leader --format json", "true"),
        ("is-leader --format yaml", "true"),
        ("relation-ids req", "req:2"),
        ("relation-ids --format json req", '["req:2"]'),
        ("relation-ids --format yaml req", "- req:2"),
        ("relation-ids nosuch", ""),
        ("relation-ids nosuch --format=json", "[]"),
        ("relation-list -r req:2", "p/0"),
        ("relation-list -r ring:1 --format json", '["b/1","b/2"]'),
        ("relation-list -r req:2 --app", "p"),
        ("relation-list -r 2 --app --format json", '"p"'),
        (
            "relation-get -r req:2 - p/0",
            "egress-subnets: 10.0.0.1/32\ningress-address: 10.0.0.1",
        ),
        ("relation-get -r prov:2 ingress-address p/0", "10.0.0.1"),
        ("relation-get -r req:2 --format json ingress-address p/0", '"10.0.0.1"'),
        ("relation-get -r req:2 nokey p/0", ""),
        ("relation-get -r req:2 --format json nokey p/0", "null"),
        ("relation-get -r req:2 --app - p", "{}"),
        ("relation-get -r req:2 --app --format json - p/0", "{}"),
        ("relation-model-get -r req:2", "uuid: 7e887193-bc97-4760-8eda-15a7422a2b9d"),
        ("config-get", "b: false\nf: 1.5\ni: 7\ns: hello"),
        ("config-get --format json", '{"b":false,"f":1.5,"i":7,"s":"hello"}'),
        (
            "config-get -a --format json",
            '{"b":false,"f":1.5,"i":7,"s":"hello","sec":null,"snodef":null}',
        ),
        ("config-get s", "hello"),
        ("config-get b", "False"),
        ("config-get --format json b", "false"),
        ("config-get nosuch", ""),
        ("config-get --format json snodef", "null"),
        ("status-get", "unknown"),
        ("status-get --format json", '{"status":"unknown"}'),
        (
            "status-get --include-data --format json",
            '{"message":"","status":"unknown","status-data":{}}',
        ),
        ("status-get --application", "unknown"),
        ("state-get", "{}"),
        ("state-get nokey", ""),
        ("state-delete nokey", ""),
        ("opened-ports --format json", "[]"),
        ("storage-list", "data/1"),
        ("storage-list nosuch", ""),
        ("storage-get -s data/1", "kind: filesystem\nlocation: /var/lib/juju/storage/data-0"),
        ("storage-get -s data/1 location", "/var/lib/juju/storage/data-0"),
        ("network-get req --ingress-address", "10.0.0.2"),
        ("network-get req --bind-address", "10.1.0.9"),
        ("network-get req --egress-subnets", "10.0.0.2/32"),
        (
            "network-get req --format json",
            '{"bind-addresses":[{"mac-address":"","interface-name":"placeholder for \\"b/0\\" '
            'cloud container","addresses":[{"hostname":"10.1.0.9","value":"10.1.0.9","cidr":'
            '"0.0.0.0/0"}]}],"egress-subnets":["10.0.0.2/32"],"ingress-addresses":["10.0.0.2"]}',
        ),
        (
            "network-get req",
            "bind-addresses:\n- mac-address: ''\n  interface-name: placeholder for \"b/0\" cloud "
            "container\n  addresses:\n  - hostname: 10.1.0.9\n    value: 10.1.0.9\n"
            "    cidr: 0.0.0.0/0\n    address: 10.1.0.9\n  macaddress: ''\n"
            '  interfacename: placeholder for "b/0" cloud container\n'
            "egress-subnets:\n- 10.0.0.2/32\ningress-addresses:\n- 10.0.0.2",
        ),
        ("unit-get public-address", "10.0.0.2"),
        ("juju-log -l DEBUG hi", ""),
        ("application-version-set -- 9.9", ""),
    ],
)
def test_a_leader_asks_and_is_answered(pair: Lab, command: str, printed: str) -> None:
    (result,) = pair.exec("b/0", command)
    assert (result.code, result.stdout.removesuffix("\n"), result.stderr) == (0, printed, "")


@pytest.mark.parametrize(
    ("code", "command", "text"),
    [
        (2, "relation-ids", "no endpoint name specified"),
        (2, "relation-list", "no relation id specified"),
        (
            2,
            "relation-list -r req:999",
            'invalid value "req:999" for option -r: relation not found',
        ),
        (
            2,
            "relation-list -r garbage",
            'invalid value "garbage" for option -r: invalid relation id',
        ),
        (2, "relation-get -r req:2", "no unit or application specified"),
        (1, "relation-get -r req:2 - p/9", "relation unit not found"),
        (1, "relation-get -r req:2 --app - zzz", 'getting application "zzz" not found'),
        (2, "relation-set a=1", "no relation id specified"),
        (2, "relation-set -r req:2 noequal", 'expected "key=value", got "noequal"'),
        (
            2,
            "status-set foo",
            'invalid status "foo", expected one of [maintenance blocked waiting active]',
        ),
        (
            2,
            "status-set error x",
            'invalid status "error", expected one of [maintenance blocked waiting active]',
        ),
        (2, "status-set", "invalid args, require <status> [message]"),
        (2, "application-version-set", "no version specified"),
        (2, "state-set noeq", 'expected "key=value", got "noeq"'),
        (
            1,
            "open-port 9000-9002/udp",
            "port ranges are not supported for k8s applications, please specify a single port",
        ),
        (2, "open-port 99999", "port range bounds must be between 0 and 65535, got 99999-99999"),
        (2, "open-port 80/foo", 'invalid protocol "foo", expected "tcp", "udp", or "icmp"'),
        (2, "storage-get", "no storage instance specified"),
        (1, "storage-get -s data/1 size", 'invalid storage attribute "size"'),
        (
            2,
            "storage-get -s data/99",
            'invalid value "data/99" for option -s: storage instance "data/99" not found',
        ),
        (2, "network-get", "no arguments specified"),
        (1, "network-get nosuch", 'no network config found for binding "nosuch"'),
        (1, "unit-get private-address", "private address not found"),
        (2, "unit-get foo", 'unknown setting "foo"'),
        (2, "juju-log", "no message specified"),
        (1, "juju-reboot", "juju-reboot is not supported when running an action."),
        (2, "resource-get", "missing required resource name"),
        (
            1,
            "credential-get",
            "cannot access cloud credentials: getting model credentials: permission denied",
        ),
        (2, "is-leader --nosuch", "option provided but not defined: --nosuch"),
    ],
)
def test_what_is_refused_says_why(pair: Lab, code: int, command: str, text: str) -> None:
    (result,) = pair.exec("b/0", command)
    assert (result.code, result.stdout, result.stderr) == (code, "", f"ERROR {text}\n")


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("relation-set -r req:2 --app ax=1", "cannot write relation settings"),
        ("status-set --application active", "this unit is not the leader"),
        (
            "status-get --application",
            "finding application status: this unit is not the leader",
        ),
        ("secret-add abc=one", "this unit is not the leader"),
    ],
)
def test_a_follower_may_not_speak_for_its_application(pair: Lab, command: str, text: str) -> None:
    (result,) = pair.exec("b/1", command)
    assert (result.code, result.stderr) == (1, f"ERROR {text}\n")


def test_a_follower_reads_its_applications_databag(pair: Lab) -> None:
    pair.exec("b/0", "relation-set -r req:2 --app ak=av1")
    assert pair.out("b/1", "relation-get -r req:2 --app - b") == "ak: av1"


def test_a_tool_that_is_gone_is_not_found(pair: Lab) -> None:
    (result,) = pair.exec("b/0", "leader-get")
    assert result.code == 127


def test_a_hook_reads_back_what_it_writes(pair: Lab) -> None:
    results = pair.exec(
        "b/0",
        "relation-set -r req:2 a=1 egress-subnets=",
        "relation-get -r req:2 - b/0",
        "state-set a=b c=d",
        "state-delete a",
        "state-get --format json",
        "open-port 8080/tcp",
        "open-port icmp",
        "open-port --endpoints prov 8443",
        "opened-ports --endpoints",
        "close-port 8080",
        "opened-ports",
    )
    assert [r.stdout for r in results if r.stdout] == [
        "a: 1\ningress-address: 10.0.0.2\n".replace("1\ni", "'1'\ni"),
        '{"c":"d"}\n',
        "icmp (*)\n8080/tcp (*)\n8443/tcp (prov)\n",
        "icmp\n8443/tcp\n",
    ]
    assert pair.model.find("b/0").ports == [("", "icmp"), ("prov", "8443/tcp")]


def test_values_from_a_file_are_strings(pair: Lab) -> None:
    pair.model.exec("b/0", "")
    event = pair.model.next_event("b/0")
    assert event is not None
    context = HookContext(pair.model, "b/0", event)
    context.run(["relation-set", "-r", "2", "--file", "-"], "fk: fv\nn: 5\nyes: true\n")
    context.run(["secret-add", "--file", "-"], "abc: 5\n")
    context.finish(0)
    bag = pair.model.relations[2].bags["b/0"]
    assert (bag["fk"], bag["n"], bag["yes"]) == ("fv", "5", "true")
    assert [s.revisions[1].content for s in pair.model.secrets.values()] == [{"abc": "5"}]


def test_a_file_of_the_controllers_machine_is_not_read(pair: Lab) -> None:
    (result,) = pair.exec("b/0", "secret-add abc#file=/etc/hostname")
    assert result.code == 2


def test_the_status_of_a_hook_is_what_it_was_when_it_began(pair: Lab) -> None:
    results = pair.exec("b/0", "status-set active hello there", "status-get")
    assert results[1].stdout == "unknown\n"
    assert pair.model.find("b/0").workload.message == "hello there"


def test_the_goal_is_told_without_those_who_leave(pair: Lab) -> None:
    goal = json.loads(pair.out("b/0", "goal-state --format json"))
    assert list(goal["units"]) == ["b/0", "b/1", "b/2"]
    assert goal["relations"]["req"]["p"]["status"] == "joined"
    assert goal["relations"]["req"]["p/0"]["status"] == "unknown"
    assert yaml.safe_load(pair.out("b/0", "goal-state")).keys() == goal.keys()


def test_an_unknown_log_level_is_logged_as_info_with_a_warning(pair: Lab) -> None:
    pair.exec("b/0", "juju-log -l bogus hi")
    assert 'b/0 WARNING Specified log level of "bogus" is not valid' in pair.log
    assert "b/0 INFO hi" in pair.log


def test_storage_cannot_be_added(pair: Lab) -> None:
    with pytest.raises(AssertionError, match="adding storage to a unit is not supported on k8s"):
        pair.exec("b/0", "storage-add extra")


def test_a_resource_is_a_path_without_a_newline(lab: Lab) -> None:
    lab.deploy("p", resources={"notes": "/somewhere/notes.txt"})
    (result,) = lab.exec("p/0", "resource-get notes")
    assert result.stdout == "/var/lib/juju/agents/unit-p-0/resources/notes/notes.txt"
    (missing,) = lab.exec("p/0", "resource-get nosuch")
    assert missing.code == 1


def acted(lab: Lab, name: str, params: dict[str, object], *commands: str, code: int = 0) -> str:
    task = lab.model.run_action("p/0", name, params)
    event = lab.model.next_event("p/0")
    if event:
        context = HookContext(lab.model, "p/0", event)
        for command in commands:
            result = context.run(command.split(" "))
            assert result.code == 0, result.stderr
        context.finish(code, "out\n")
    return task.id


def test_an_action_has_its_parameters_with_their_defaults(lab: Lab) -> None:
    lab.deploy("p")
    lab.model.run_action("p/0", "ok", {"obj": {"a": {"b": 1}}})
    event = lab.model.next_event("p/0")
    assert event is not None
    context = HookContext(lab.model, "p/0", event)
    for command, printed in (
        ("action-get word", "dflt\n"),
        ("action-get obj.a.b", "1\n"),
        ("action-get num --format json", "null\n"),
        ("action-get --format json obj", '{"a":{"b":1}}\n'),
    ):
        assert context.run(command.split(" ")).stdout == printed


def test_an_actions_results_nest_and_are_strings(lab: Lab) -> None:
    lab.deploy("p")
    sets = "action-set num=5 nested.key=val nested.b=2 list=[1,2]"
    task = lab.model.tasks[acted(lab, "ok", {}, sets, "action-log first")]
    assert task.status == "completed"
    assert task.results == {
        "num": "5",
        "nested": {"key": "val", "b": "2"},
        "list": "[1,2]",
        "return-code": 0,
        "stdout": "out\n",
    }
    assert [text for _, text in task.log] == ["first"]


def test_an_action_fails_by_word_or_by_exit_code(lab: Lab) -> None:
    lab.deploy("p")
    said = lab.model.tasks[acted(lab, "ok", {}, "action-set a=1", "action-fail it went wrong")]
    assert (said.status, said.message, said.results["a"]) == ("failed", "it went wrong", "1")
    died = lab.model.tasks[acted(lab, "ok", {}, "state-set k=v", code=4)]
    assert (died.status, died.message, died.results["return-code"]) == (
        "failed",
        "exit status 4",
        4,
    )
    assert lab.model.find("p/0").state == {}


@pytest.mark.parametrize(
    ("action", "params", "text"),
    [
        ("ok", {"num": "abc"}, '(root).num : must be of type integer, given "abc"'),
        ("strict", {}, '(root) : "must" property is missing and required, given {}'),
        (
            "strict",
            {"must": "x", "more": True},
            '(root) : additional property "more" is not allowed, given {"more":true,"must":"x"}',
        ),
    ],
)
def test_wrong_parameters_are_refused_before_the_action_runs(
    lab: Lab, action: str, params: dict[str, object], text: str
) -> None:
    lab.deploy("p")
    task = lab.model.tasks[acted(lab, action, params)]
    assert task.status == "error"
    assert task.message == f'cannot run "{action}" action: validation failed: {text}'


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (
            "action-set BadKey=1",
            'key "BadKey" must start and end with lowercase alphanumeric, '
            "and contain only lowercase alphanumeric and hyphens",
        ),
        ("action-set stdout=1", 'cannot set reserved action key "stdout"'),
    ],
)
def test_a_wrong_result_key_is_refused(lab: Lab, command: str, text: str) -> None:
    lab.deploy("p")
    (result,) = lab.exec("p/0", command)
    assert (result.code, result.stderr) == (2, f"ERROR {text}\n")


def test_action_tools_are_for_actions(lab: Lab) -> None:
    lab.deploy("p")
    said = lab.hook("p/0", "config-changed", "action-get", "action-fail x")
    lab.model.set_config("p", {"s": "new"})
    lab.settle()
    assert {(r.code, r.stderr) for r in said} == {(1, "ERROR not running an action\n")}
