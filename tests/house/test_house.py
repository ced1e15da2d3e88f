"""What holds for every room of the house; what is in the rooms is listed from the folders."""

import ast
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import cli

ROOT = Path(__file__).parents[2]
CHARMS = sorted(path.parent.name for path in ROOT.glob("charms/*/charmcraft.yaml"))
INTERFACES = sorted(path.parent.name for path in ROOT.glob("interfaces/*/__init__.py"))
ROLES = ("requires", "provides", "peers")
SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{36}\b|\bxox[abp]-\w{10}"
    r"|\beyJ[\w-]{20,}\.eyJ|\bpypi-[\w-]{40}"
)


def tracked(*patterns: str) -> list[Path]:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for it in found.split("\0") if it and (path := ROOT / it).is_file()]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def charm(name: str) -> dict[str, Any]:
    return read(f"charms/{name}/charmcraft.yaml")


def options(name: str) -> dict[str, Any]:
    return charm(name).get("config", {}).get("options", {})


def applications() -> dict[str, Any]:
    return read("bundle.yaml")["applications"]


def charm_of(application: str) -> str:
    return Path(applications()[application]["charm"]).stem


def sources(name: str) -> dict[str, str]:
    return {path.name: path.read_text() for path in ROOT.glob(f"charms/{name}/src/**/*.py")}


every_charm = pytest.mark.parametrize("name", CHARMS)


@every_charm
def test_a_charm_has_all_its_files(name):
    expected = {"README.md", "icon.svg", "pyproject.toml", "src/charm.py", "tests/world.py"}
    assert not {it for it in expected if not (ROOT / "charms" / name / it).is_file()}
    assert list(ROOT.glob(f"charms/{name}/tests/test_*.py"))


@every_charm
def test_a_charm_says_what_it_is_and_what_it_needs(name):
    said = charm(name)
    assert said["name"] == name
    assert said["title"]
    assert said["summary"]
    assert said["description"]
    assert {"source", "issues", "documentation"} <= said["links"].keys()
    assert said["base"] == "ubuntu@24.04"
    assert "k8s-api" in said["assumes"]
    assert "juju >= 3.6" in str(said["assumes"])


@every_charm
def test_a_charm_is_packed_from_the_one_workspace(name):
    (part,) = charm(name)["parts"].values()
    assert part["plugin"] == "uv"
    assert part["source"] == "../.."
    assert part["source-subdir"] == f"charms/{name}"


@every_charm
def test_nothing_of_a_charm_runs_as_root(name):
    said = charm(name)
    assert said["charm-user"] == "non-root"
    for container in said["containers"].values():
        assert container["uid"] != 0
        # The group 0 is what many upstream images let any user have; it is no right of root's.
        for it in (container["uid"], container["gid"]):
            assert not 1000 <= it <= 9999, "Juju reserves 1000 to 9999"


@every_charm
def test_every_image_is_named_and_pinned(name):
    said = charm(name)
    images = {n: it for n, it in said["resources"].items() if it["type"] == "oci-image"}
    assert {it["resource"] for it in said["containers"].values()} <= images.keys()
    for it in images.values():
        tag = it["upstream-source"].rpartition("/")[2].partition(":")[2]
        assert tag not in ("", "latest")


@every_charm
def test_every_endpoint_says_whether_it_may_be_left_out(name):
    said = charm(name)
    for role in ("requires", "provides"):
        for endpoint, it in said.get(role, {}).items():
            assert isinstance(it.get("optional"), bool), endpoint
    for endpoint, it in said.get("requires", {}).items():
        assert it["optional"] or it.get("limit") == 1, endpoint


@every_charm
def test_a_charm_can_be_looked_into_and_restarted(name):
    actions = charm(name)["actions"]
    assert {"show-plan", "restart"} <= actions.keys()
    for action, it in actions.items():
        assert it["description"], action
        assert it["additionalProperties"] is False, action


@every_charm
def test_a_charm_explains_each_option_and_action_to_its_user(name):
    said = charm(name)
    page = (ROOT / "charms" / name / "README.md").read_text()
    words = {*options(name), *said["actions"], *said.get("requires", {})}
    assert not {it for it in words if it not in page}


@every_charm
def test_a_charm_reads_in_a_minute(name):
    assert len((ROOT / "charms" / name / "src/charm.py").read_text().splitlines()) <= 150


@every_charm
def test_a_charm_neither_waits_nor_remembers_nor_sets_its_status(name):
    forbidden = re.compile(r"\.defer\(|StoredState|time\.sleep|(unit|app)\.status\s*=[^=]")
    assert not {file for file, text in sources(name).items() if forbidden.search(text)}


@every_charm
def test_a_charm_has_one_class_above_it_and_none_between(name):
    tree = ast.parse((ROOT / "charms" / name / "src/charm.py").read_text())
    bases = [
        [ast.unparse(base) for base in it.bases]
        for it in ast.walk(tree)
        if isinstance(it, ast.ClassDef) and it.name.endswith("Charm")
    ]
    assert bases == [["ops.CharmBase"]]


def test_there_are_charms():
    assert CHARMS


def test_no_file_has_a_name_that_says_nothing():
    nothing = {"utils.py", "helpers.py", "constants.py", "common.py", "misc.py"}
    assert not [path for path in tracked("*.py") if path.name in nothing]


def test_nothing_is_left_to_do():
    left = re.compile(r"\b(TODO|FIXME|XXX)\b")
    mine = Path(__file__)
    assert not [it for it in tracked("*.py") if it != mine and left.search(it.read_text())]


def test_the_library_stays_small():
    files = ROOT.glob("lib/katonic/**/*.py")
    assert sum(len(path.read_text().splitlines()) for path in files) <= 1500


def test_no_secret_stands_in_the_tree():
    found = [path for path in tracked() if SECRETS.search(path.read_bytes().decode("latin-1"))]
    assert not found


@pytest.mark.parametrize("name", INTERFACES)
def test_an_interface_has_an_example_of_each_side_and_a_page(name):
    text = (ROOT / f"interfaces/{name}/__init__.py").read_text()
    examples = text.partition("EXAMPLES")[2]
    assert re.search(r"\bRequirer\w*\(", examples)
    assert re.search(r"\bProvider\w*\(", examples)
    assert (ROOT / f"interfaces/{name}/README.md").is_file()


def test_every_interface_of_a_charm_is_one_of_the_house():
    own = {"katonic_peers"}
    used = {
        it["interface"].replace("-", "_")
        for name in CHARMS
        for role in ROLES
        for it in charm(name).get(role, {}).values()
    }
    assert used <= {*INTERFACES, *own}


@pytest.mark.parametrize("application", applications())
def test_the_bundle_sets_only_what_the_charm_has(application):
    it = applications()[application]
    said = charm(charm_of(application))
    assert it["charm"] == f"./dist/{charm_of(application)}.charm"
    assert it.get("options", {}).keys() <= options(charm_of(application)).keys()
    assert it.get("storage", {}).keys() <= said.get("storage", {}).keys()
    assert "to" not in it


@pytest.mark.parametrize("application", applications())
def test_the_bundle_gives_each_application_every_resource(application):
    """Juju does not say that one lacks: the application would wait for ever."""
    given = applications()[application].get("resources", {})
    declared = charm(charm_of(application))["resources"]
    assert given == {name: it["upstream-source"] for name, it in declared.items()}


def test_the_bundle_relates_endpoints_that_fit():
    for pair in read("bundle.yaml")["relations"]:
        (one, one_end), (other, other_end) = (it.split(":") for it in pair)
        ends = {
            role: charm(charm_of(app)).get(role, {}).get(end, {}).get("interface")
            for app, end in ((one, one_end), (other, other_end))
            for role in ("requires", "provides")
            if end in charm(charm_of(app)).get(role, {})
        }
        assert ends.keys() == {"requires", "provides"}, pair
        assert ends["requires"] == ends["provides"], pair


@pytest.mark.parametrize("application", applications())
def test_the_bundle_leaves_no_application_without_what_it_requires(application):
    related = {it for pair in read("bundle.yaml")["relations"] for it in pair}
    required = {
        f"{application}:{endpoint}"
        for endpoint, it in charm(charm_of(application)).get("requires", {}).items()
        if not it["optional"]
    }
    assert required <= related


def words_of(constraints: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in constraints.split())


def pools(text: str) -> dict[str, str]:
    """Return the label of each pool of node-pools' option, by the pool's name."""
    return {it["name"]: it["label"] for it in yaml.safe_load(text)}


@pytest.mark.parametrize("application", applications())
def test_the_bundle_puts_each_application_on_a_pool_and_bounds_its_memory(application):
    words = words_of(applications()[application]["constraints"])
    assert words["mem"]
    assert words["tags"] in pools(options("node-pools")["pools"]["default"]).values()


def test_the_sandbox_has_the_pools_of_production():
    overlay = read("bundle/overlays/sandbox.yaml")["applications"]["node-pools"]
    assert pools(overlay["options"]["pools"]) == pools(options("node-pools")["pools"]["default"])


def test_on_one_node_it_is_the_same_platform_without_pools():
    overlay = read("bundle/overlays/one-node.yaml")["applications"]
    assert overlay.pop("node-pools") is None
    assert overlay.keys() == applications().keys() - {"node-pools"}
    for application, it in overlay.items():
        words = words_of(applications()[application]["constraints"])
        del words["tags"]
        assert words_of(it.pop("constraints")) == words
        assert not it


def test_the_sandbox_deploys_the_same_platform_from_source():
    overlay = read("bundle/overlays/sandbox.yaml")["applications"]
    assert overlay.keys() == applications().keys()
    for application, it in overlay.items():
        assert it["charm"] == f"../../charms/{charm_of(application)}"
        assert it["resources"].keys() == applications()[application]["resources"].keys()


def pages() -> list[Path]:
    return tracked("*.md")


def links(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    return {it for it in re.findall(r"\]\(([^)\s]+)\)", text) if ":" not in it}


def test_every_link_of_every_page_leads_somewhere():
    broken = []
    for page in pages():
        for link in links(page):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in headings}


def test_every_page_of_the_documentation_is_on_its_map():
    index = ROOT / "docs/README.md"
    listed = {(index.parent / it.partition("#")[0]).resolve() for it in links(index)}
    assert {it for it in pages() if it.is_relative_to(ROOT / "docs")} - {index} <= listed


def commands(pattern: str) -> list[tuple[str, list[str]]]:
    """Return the words that follow `pattern` on a line of a page, and the page."""
    found = []
    for page in pages():
        for line in re.findall(pattern + r" ([^`\n#|]+)", page.read_text()):
            words = line.replace("...", "").strip()
            found.append((str(page.relative_to(ROOT)), shlex.split(words) if words else []))
    return found


def test_every_command_of_ours_in_a_page_exists():
    verbs = set(re.findall(r"^    ([a-z]+)\)", (ROOT / "katonic").read_text(), flags=re.M))
    wrong = [(page, it) for page, it in commands(r"\./katonic") if it and it[0] not in verbs]
    assert not wrong


def test_every_action_that_a_page_runs_exists():
    wrong = []
    for page, words in commands(r"juju run"):
        target, action = (*words, "", "")[:2]
        application = target.partition("/")[0]
        if application in applications():
            wrong += [] if action in charm(charm_of(application))["actions"] else [(page, words)]
    assert not wrong


def test_every_option_that_a_page_sets_exists():
    wrong = []
    for page, words in commands(r"juju config"):
        if words and words[0] in applications():
            named = {it.partition("=")[0] for it in words[1:] if not it.startswith("-")}
            wrong += [(page, it) for it in named - options(charm_of(words[0])).keys()]
    assert not wrong


def test_every_status_of_the_library_is_explained():
    page = (ROOT / "docs/reference/statuses.md").read_text()
    raised = {"NotYet", "Invalid", "BlockedStatus", "WaitingStatus"}
    unknown = []
    for path in ROOT.glob("lib/katonic/*.py"):
        for it in ast.walk(ast.parse(path.read_text())):
            if isinstance(it, ast.Call) and ast.unparse(it.func).rpartition(".")[2] in raised:
                texts = [n.value for n in ast.walk(it) if isinstance(n, ast.Constant)]
                said = max((str(text).strip(" :;") for text in texts), key=len, default="")
                unknown += [] if said in page else [f"{path.name}:{it.lineno}: {said}"]
    assert not unknown


def test_every_command_of_the_sandbox_is_listed():
    page = (ROOT / "docs/reference/commands.md").read_text()
    assert not [name for name in cli.COMMANDS if f"`{name}`" not in page]
