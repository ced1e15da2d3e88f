"""The images by hand: python -m sandbox.images [NAME...]."""

import argparse
import json
import sys
import time

from sandbox.images import RECIPES, ImageError, build


def main() -> int:
    """Build what the command line names, all if it names none, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.images", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(RECIPES)}")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    given = parser.parse_args()
    begun = time.monotonic()

    def progress(message: str) -> None:
        seconds = round(time.monotonic() - begun, 1)
        line = json.dumps({"seconds": seconds, "message": message})
        print(line if given.format == "json" else f"{seconds:6.1f} s  {message}", flush=True)

    try:
        images = build(given.name or list(RECIPES), progress)
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, it in images.items():
        line = json.dumps({"image": name, "reference": it.reference, "tar": str(it.tar)})
        print(line if given.format == "json" else f"{it.reference}  {it.tar}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
