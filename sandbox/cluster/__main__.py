"""The cluster by hand: python -m sandbox.cluster up | down [--wipe] | status | kubectl ..."""

import argparse
import json
import os
import sys
import time

from sandbox import cluster


def main() -> int:
    """Do what the command line says and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start it, or mend what does not run")
    down = verbs.add_parser("down", help="stop it")
    down.add_argument("--wipe", action="store_true", help="also forget objects and volumes")
    told = verbs.add_parser("status", help="tell which processes run; exit code 1 if one does not")
    for verb in (up, told):
        verb.add_argument("--format", choices=("text", "json"), default="text")
    verbs.add_parser("kubectl", help="run kubectl on it", add_help=False)
    given, rest = parser.parse_known_args()
    if rest and given.verb != "kubectl":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return {"up": start, "down": stop, "status": tell, "kubectl": kubectl}[given.verb](
            given, rest
        )
    except cluster.ClusterError as error:
        print(f"ERROR {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def start(given: argparse.Namespace, _: list[str]) -> int:
    """Start the cluster, telling how far it is."""
    begun = time.monotonic()

    def progress(message: str) -> None:
        seconds = round(time.monotonic() - begun, 1)
        line = json.dumps({"seconds": seconds, "message": message})
        print(line if given.format == "json" else f"{seconds:6.1f} s  {message}", flush=True)

    started = cluster.start(progress)
    progress(f"ready: KUBECONFIG={started.kubeconfig}")
    return 0


def stop(given: argparse.Namespace, _: list[str]) -> int:
    """Stop the cluster."""
    cluster.stop(given.wipe)
    return 0


def tell(given: argparse.Namespace, _: list[str]) -> int:
    """Print which processes run; succeed if all do."""
    conditions = cluster.status()
    if given.format == "json":
        print(json.dumps([vars(condition) for condition in conditions]))
    else:
        for it in conditions:
            print(f"{it.node:10} {it.process:24} {it.pid or 'DEAD: run up'}")
        if not conditions:
            print("off")
    return 0 if conditions and all(it.pid for it in conditions) else 1


def kubectl(_: argparse.Namespace, rest: list[str]) -> int:
    """Become kubectl on the cluster, which is started if it is off."""
    found = cluster.find() or cluster.start(lambda message: print(message, file=sys.stderr))
    os.environ["KUBECONFIG"] = str(found.kubeconfig)
    os.execv(found.kubectl, ["kubectl", *rest])  # noqa: S606 a program of our own, no shell


if __name__ == "__main__":
    sys.exit(main())
