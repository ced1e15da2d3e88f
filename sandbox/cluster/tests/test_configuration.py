import json
import tomllib
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sandbox.cluster import network
from sandbox.cluster.configuration import AGENTS, CONTROL_PLANE, NODES, NodeSpec, Site
from sandbox.cluster.home import Home

FIRST = NodeSpec("first", 1)
GPU = NodeSpec("gpu", 2, labels={"tier": "gpu"}, taints=("gpu=yes:NoSchedule",))


@pytest.fixture
def site(tmp_path) -> Site:
    home = Home(tmp_path)
    made = Site(home, Path("/programs"), Path("/plugins"), "localhost/cluster/pause:1", FIRST)
    made.credentials()
    return made


def test_nodes_have_addresses_and_pods_of_their_own():
    assert (FIRST.address, FIRST.pods) == ("10.200.0.11", "10.244.1.0/24")
    assert (GPU.address, GPU.pods) == ("10.200.0.12", "10.244.2.0/24")


def test_a_node_is_the_same_whatever_its_labels_are():
    assert NodeSpec("gpu", 2) == GPU
    assert len({NodeSpec("gpu", 2), GPU}) == 1


def test_a_node_registers_with_its_taints_so_that_no_pod_is_there_before_them(site):
    kubelet, _ = site.agents(GPU)
    assert "--register-with-taints=gpu=yes:NoSchedule" in kubelet.argv


def test_every_pool_of_the_platform_has_nodes_that_only_its_own_pods_enter():
    pools = {spec.labels.get("katonic.ai/node-pool"): spec for spec in NODES}
    assert pools["platform"].taints == ("katonic.ai/node-pool=platform:NoSchedule",)
    assert pools["deployment"].taints == ("katonic.ai/node-pool=deployment:NoSchedule",)
    assert pools["compute"].taints == ()


def test_the_nodes_of_the_platform_are_in_two_zones():
    platform = [it for it in NODES if it.labels.get("katonic.ai/node-pool") == "platform"]
    assert len({it.labels["topology.kubernetes.io/zone"] for it in platform}) == 2


def test_no_two_nodes_have_an_address_or_a_range_of_pods_in_common():
    assert len({it.address for it in NODES}) == len({it.pods for it in NODES}) == len(NODES)


def test_no_pod_that_kwok_plays_has_the_address_of_another():
    highest = NodeSpec("highest", 200)
    assert not IPv4Network(highest.pods).overlaps(IPv4Network(network.FAKE_PODS))


def test_containerd_has_the_images_of_localhost_from_the_registry(site):
    _, _, path = site.runtime(GPU).argv
    told = tomllib.loads(Path(path).read_text())["plugins"]["io.containerd.grpc.v1.cri"]
    folder = Path(told["registry"]["config_path"], "localhost")
    assert tomllib.loads((folder / "hosts.toml").read_text()) == {
        "server": "http://10.200.0.11:5000",
        "host": {"http://10.200.0.11:5000": {}},
    }


def test_what_status_expects_is_what_is_started(site):
    assert [daemon.name for daemon in site.control_plane()] == list(CONTROL_PLANE)
    assert [site.runtime(FIRST).name, *(it.name for it in site.agents(FIRST))] == list(AGENTS)


def test_the_same_configuration_gives_the_same_command_line(site):
    again = Site(site.home, site.binaries, site.plugins, site.pause_image, FIRST)
    assert again.agents(FIRST) == site.agents(FIRST)
    assert again.runtime(FIRST) == site.runtime(FIRST)
    assert again.control_plane() == site.control_plane()


def test_another_pause_image_gives_containerd_another_command_line(site):
    other = Site(site.home, site.binaries, site.plugins, "localhost/cluster/pause:2", FIRST)
    assert other.runtime(FIRST) != site.runtime(FIRST)


def test_a_file_that_was_written_is_never_rewritten(site):
    one = site.write(FIRST, "file", "one")
    two = site.write(FIRST, "file", "two")
    assert (one.read_text(), two.read_text()) == ("one", "two")
    assert site.write(FIRST, "file", "one") == one


def test_two_nodes_share_no_folder_but_the_volumes(site):
    one, two = (json.loads(site.kubelet(node)) for node in (FIRST, GPU))
    for key in ("cgroupRoot", "podLogsDir", "volumePluginDir", "tlsCertFile", "resolvConf"):
        assert one[key] != two[key]


def test_the_api_servers_certificate_serves_its_names_and_comes_from_the_authority(site):
    pki = site.home.pki
    authority = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    served = x509.load_pem_x509_certificate((pki / "kube-apiserver.crt").read_bytes())
    served.verify_directly_issued_by(authority)
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)
    addresses = [str(it) for it in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["127.0.0.1", "10.96.0.1", "10.200.0.11"]


def test_the_front_proxy_has_an_authority_of_its_own(site):
    pki = site.home.pki
    client = x509.load_pem_x509_certificate((pki / "front-proxy-client.crt").read_bytes())
    front = x509.load_pem_x509_certificate((pki / "front-proxy-ca.crt").read_bytes())
    client.verify_directly_issued_by(front)


def test_a_node_is_to_kubernetes_a_member_of_system_nodes(site):
    site.agents(GPU)
    path = site.home.pki / "kubelet-gpu.crt"
    subject = x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string()
    assert subject == "CN=system:node:gpu,O=system:nodes"


def test_credentials_that_are_there_stay(site):
    before = {path: path.read_bytes() for path in site.home.pki.iterdir()}
    site.credentials()
    assert {path: path.read_bytes() for path in site.home.pki.iterdir()} == before


def test_no_key_or_kubeconfig_is_readable_by_others(site):
    site.agents(FIRST)
    files = list(site.home.pki.iterdir())
    assert files
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_service_accounts_have_a_public_key_to_check_tokens_by(site):
    assert load_pem_public_key((site.home.pki / "service-accounts.pub").read_bytes())
