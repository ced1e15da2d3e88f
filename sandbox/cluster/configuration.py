"""The nodes, and the configuration and command line of every process that runs on them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.cluster import network
from sandbox.cluster.build import STAGES
from sandbox.cluster.home import Home
from sandbox.cluster.pki import Authority, Identity, signing_key

PORT = 6443
REGISTRY_PORT = 5000
KUBELET_PORT = 10250
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
CONTROL_PLANE = (
    "etcd",
    "kube-apiserver",
    "image-registry",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok",
    "local-provisioner",
)
AGENTS = ("containerd", "kubelet", "kube-proxy")


@dataclass(frozen=True)
class NodeSpec:
    """A node to run: its name, its number from 1 to 200, labels, and taints as key=value:effect.

    Name and number alone make it the node that it is. Labels and taints are those that it has at
    first: a person may change them.
    """

    name: str
    number: int
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)
    taints: Sequence[str] = field(default=(), compare=False)

    @property
    def address(self) -> str:
        """Return the node's address on the bridge."""
        return str(network.MACHINES[10 + self.number])

    @property
    def pods(self) -> str:
        """Return the range that the node's pods have their addresses from."""
        return str(list(network.PODS.subnets(new_prefix=24))[self.number])


CONTROL = "node-role.kubernetes.io/control-plane"
POOL = "katonic.ai/node-pool"
STORAGE = "node-role.kubernetes.io/storage-node"
ZONE = "topology.kubernetes.io/zone"
PLATFORM_TAINTS = (f"{POOL}=platform:NoSchedule",)
NODES = (
    NodeSpec("control", 1, {CONTROL: ""}, (f"{CONTROL}:NoSchedule",)),
    NodeSpec("platform1", 2, {POOL: "platform", ZONE: "a"}, PLATFORM_TAINTS),
    NodeSpec("platform2", 3, {POOL: "platform", ZONE: "b"}, PLATFORM_TAINTS),
    NodeSpec("compute1", 4, {POOL: "compute"}),
    NodeSpec("deployment1", 5, {POOL: "deployment"}, (f"{POOL}=deployment:NoSchedule",)),
    NodeSpec("storage1", 6, {STORAGE: "ceph"}, ("node.kubernetes.io/storage-node:NoSchedule",)),
)
"""The cluster's nodes, of which the first has the control plane."""


@dataclass(frozen=True)
class Daemon:
    """A process of a node; it is running as it should when one has exactly these arguments."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Site:
    """What all nodes share: the folders, the built programs, CNI plugins, and the first node."""

    home: Home
    binaries: Path
    plugins: Path
    pause_image: str
    first: NodeSpec

    @property
    def server(self) -> str:
        """Return the API server's URL."""
        return f"https://{self.first.address}:{PORT}"

    @property
    def registry(self) -> str:
        """Return the address and port of the registry that the images come from."""
        return f"{self.first.address}:{REGISTRY_PORT}"

    @property
    def authority(self) -> Authority:
        """Return the authority that every certificate but the front proxy's comes from."""
        return Authority(self.home.pki, "ca")

    def write(self, node: NodeSpec, name: str, content: str) -> Path:
        """Write a configuration file under a name that holds its digest, and return its path.

        A change so makes another command line, and no process sees its file rewritten.
        """
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        path = self.home.folder(node.name) / "configuration" / digest / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return path

    def command(self, name: str, /, **flags: object) -> Daemon:
        """Return a built program with its flags; in a flag's name `_` stands for `-`."""
        given = (f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items())
        return Daemon(name, (str(self.binaries / name), *given))

    def credentials(self) -> None:
        """Make the certificates, keys and kubeconfigs that the control plane needs."""
        front = Authority(self.home.pki, "front-proxy-ca")
        self.authority.ensure()
        front.ensure()
        signing_key(self.home.pki, "service-accounts")
        service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
        addresses = ("localhost", "127.0.0.1", network.API_SERVICE, self.first.address)
        self.authority.issue(
            Identity(
                "kube-apiserver",
                "kube-apiserver",
                serves=(*service, f"{service[-1]}.cluster.local", *addresses),
            )
        )
        self.authority.issue(Identity("kubelet-client", "kube-apiserver", "system:masters"))
        front.issue(Identity("front-proxy-client", "front-proxy-client"))
        admin = Identity("admin", "kubernetes-admin", "system:masters")
        self.authority.kubeconfig(admin, self.server)

    def read(self, node: NodeSpec, port: int, path: str) -> bytes | None:
        """Return what a node's API server or kubelet has at a path; None if it does not say OK."""
        return self.authority.read(node.address, port, path, "kubelet-client")

    def registered(self) -> dict[str, Any]:
        """Return the nodes that the API server knows, by name."""
        said = self.read(self.first, PORT, "/api/v1/nodes")
        nodes = json.loads(said)["items"] if said else []
        return {node["metadata"]["name"]: node for node in nodes}

    def client(self, name: str, user: str, group: str = "") -> Path:
        """Return the kubeconfig of a client of the API server."""
        return self.authority.kubeconfig(Identity(name, user, group), self.server)

    def control_plane(self) -> list[Daemon]:
        """Return the processes of the control plane, in the order in which they start."""
        pki = self.home.pki
        etcd = self.command(
            "etcd",
            name=self.first.name,
            data_dir=self.home.state / "etcd",
            listen_client_urls="http://127.0.0.1:2379",
            advertise_client_urls="http://127.0.0.1:2379",
            listen_peer_urls="http://127.0.0.1:2380",
            initial_advertise_peer_urls="http://127.0.0.1:2380",
            initial_cluster=f"{self.first.name}=http://127.0.0.1:2380",
            log_level="warn",
        )
        server = self.command(
            "kube-apiserver",
            etcd_servers="http://127.0.0.1:2379",
            advertise_address=self.first.address,
            secure_port=PORT,
            service_cluster_ip_range=network.SERVICES,
            authorization_mode="Node,RBAC",
            client_ca_file=self.authority.certificate,
            tls_cert_file=pki / "kube-apiserver.crt",
            tls_private_key_file=pki / "kube-apiserver.key",
            kubelet_client_certificate=pki / "kubelet-client.crt",
            kubelet_client_key=pki / "kubelet-client.key",
            kubelet_certificate_authority=self.authority.certificate,
            kubelet_preferred_address_types="InternalIP",
            service_account_issuer="https://kubernetes.default.svc.cluster.local",
            service_account_key_file=pki / "service-accounts.pub",
            service_account_signing_key_file=pki / "service-accounts.key",
            requestheader_client_ca_file=pki / "front-proxy-ca.crt",
            requestheader_allowed_names="front-proxy-client",
            requestheader_extra_headers_prefix="X-Remote-Extra-",
            requestheader_group_headers="X-Remote-Group",
            requestheader_username_headers="X-Remote-User",
            proxy_client_cert_file=pki / "front-proxy-client.crt",
            proxy_client_key_file=pki / "front-proxy-client.key",
            enable_aggregator_routing="true",
            enable_admission_plugins="NodeRestriction",
            allow_privileged="true",
            feature_gates="MutatingAdmissionPolicy=true",
            runtime_config="admissionregistration.k8s.io/v1beta1=true",
        )
        manager = self.client("kube-controller-manager", "system:kube-controller-manager")
        scheduler = self.client("kube-scheduler", "system:kube-scheduler")
        return [
            etcd,
            server,
            self.command(
                "image-registry",
                listen=self.registry,
                folders=f"{self.home.platform_images}:{self.home.images}",
            ),
            self.command(
                "kube-controller-manager",
                kubeconfig=manager,
                authentication_kubeconfig=manager,
                authorization_kubeconfig=manager,
                bind_address="127.0.0.1",
                leader_elect="false",
                use_service_account_credentials="true",
                root_ca_file=self.authority.certificate,
                service_account_private_key_file=pki / "service-accounts.key",
                cluster_signing_cert_file=self.authority.certificate,
                cluster_signing_key_file=self.authority.key,
                cluster_cidr=network.PODS,
                service_cluster_ip_range=network.SERVICES,
                # With the default of 20 requests a second its own start takes 5 s.
                kube_api_qps=100,
                kube_api_burst=200,
            ),
            self.command(
                "kube-scheduler",
                kubeconfig=scheduler,
                authentication_kubeconfig=scheduler,
                authorization_kubeconfig=scheduler,
                bind_address="127.0.0.1",
                leader_elect="false",
            ),
            self.command(
                "kwok",
                kubeconfig=self.client("kwok", "katonic:kwok"),
                config=self.binaries / STAGES,
                manage_nodes_with_annotation_selector="kwok.x-k8s.io/node=fake",
                cidr=network.FAKE_PODS,
                node_ip=network.HOST_ADDRESS,
                node_lease_duration_seconds=40,
            ),
            self.command(
                "local-provisioner",
                kubeconfig=self.client("local-provisioner", "katonic:local-provisioner"),
                root=self.home.volumes,
            ),
        ]

    def runtime(self, node: NodeSpec) -> Daemon:
        """Return a node's containerd."""
        path = self.write(node, "containerd.toml", self.containerd(node))
        return Daemon("containerd", ("containerd", "--config", str(path)))

    def agents(self, node: NodeSpec) -> list[Daemon]:
        """Return a node's kubelet and kube-proxy."""
        identity = (f"system:node:{node.name}", "system:nodes")
        self.authority.issue(
            Identity(f"kubelet-server-{node.name}", *identity, serves=(node.name, node.address))
        )
        kubelet = self.command(
            "kubelet",
            config=self.write(node, "kubelet.json", self.kubelet(node)),
            kubeconfig=self.client(f"kubelet-{node.name}", *identity),
            root_dir=self.home.folder(node.name) / "kubelet",
            hostname_override=node.name,
            node_ip=node.address,
            **({"register_with_taints": ",".join(node.taints)} if node.taints else {}),
        )
        proxy = self.write(node, "kube-proxy.json", self.kube_proxy(node))
        return [kubelet, self.command("kube-proxy", config=proxy)]

    def containerd(self, node: NodeSpec) -> str:
        """Return containerd's configuration (TOML, version 2: containerd 1.6 to 2)."""
        cni = self.write(node, "10-bridge.conflist", self.cni(node)).parent
        # For images called localhost/...; containerd 1.6 wants a table, and would else turn to
        # the node itself for what the registry does not have.
        url = f"http://{self.registry}"
        hosts = self.write(node, "localhost/hosts.toml", f'server = "{url}"\n[host."{url}"]\n')
        absent = ("snapshotter.v1.aufs", "snapshotter.v1.btrfs", "snapshotter.v1.devmapper")
        absent += ("snapshotter.v1.zfs", "internal.v1.opt", "internal.v1.tracing")
        absent += ("tracing.processor.v1.otlp",)
        return f"""version = 2
root = "{self.home.folder(node.name)}/containerd"
state = "/run/containerd"
disabled_plugins = {json.dumps([f"io.containerd.{plugin}" for plugin in absent])}
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{self.pause_image}"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE, as in some virtual machines, a lower score is refused.
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{hosts.parent.parent}"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{self.plugins}"
  conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd]
  # The registry has the layers: their unpacked files are enough.
  discard_unpacked_layers = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""

    def cni(self, node: NodeSpec) -> str:
        """Return the pod network: a bridge in the node, no masquerade, so no way out."""
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni",
                "ranges": [[{"subnet": node.pods}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return json.dumps({"cniVersion": "1.0.0", "name": "katonic", "plugins": [bridge, ports]})

    def kubelet(self, node: NodeSpec) -> str:
        """Return the kubelet's configuration (JSON)."""
        folder = self.home.folder(node.name)
        document = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(self.home.pki / f"kubelet-server-{node.name}.crt"),
            "tlsPrivateKeyFile": str(self.home.pki / f"kubelet-server-{node.name}.key"),
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/katonic/{node.name}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "clusterDNS": [network.DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self.write(node, "resolv.conf", "")),
            "podLogsDir": str(folder / "pod-logs"),
            "volumePluginDir": str(folder / "volume-plugins"),
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "nodefs.inodesFree": "1%",
            },
            "syncFrequency": "10s",
            "maxPods": 200,
            "serializeImagePulls": False,
        }
        return json.dumps(document)

    def kube_proxy(self, node: NodeSpec) -> str:
        """Return kube-proxy's configuration (JSON); it leaves the machine's conntrack limits."""
        document = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {
                "kubeconfig": str(self.client("kube-proxy", "system:kube-proxy"))
            },
            "clusterCIDR": str(network.PODS),
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
            "bindAddress": "0.0.0.0",  # noqa: S104 the node's own network namespace
            "hostnameOverride": node.name,
        }
        return json.dumps(document)
