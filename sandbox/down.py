"""Stops what `./katonic deploy` started; the data stays, unless `--wipe` says otherwise."""

import argparse
import sys
from collections.abc import Sequence

from sandbox import cluster, gateway


def main(arguments: Sequence[str] | None = None) -> int:
    """Stop what leads to the platform, the controller and the cluster; return the exit code."""
    parser = argparse.ArgumentParser(prog="./katonic stop", description=__doc__)
    parser.add_argument("--wipe", action="store_true", help="delete the platform's data as well")
    words = parser.parse_args(arguments)
    from sandbox import controller

    gateway.close()
    controller.stop(wipe=words.wipe)
    cluster.stop(wipe=words.wipe, progress=print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
