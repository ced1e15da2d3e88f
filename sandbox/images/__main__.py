"""`python -m sandbox.images [NAME...]` builds the images, all of them when none is named."""

import sys
import time

from sandbox.images import RECIPES, ImageError, build

begun = time.monotonic()
try:
    images = build(
        sys.argv[1:] or list(RECIPES),
        lambda line: print(
            f"[{time.monotonic() - begun:4.0f} s] {line}", file=sys.stderr, flush=True
        ),
    )
except ImageError as error:
    sys.exit(f"error: {error}")
for image in images.values():
    print(image.reference, image.tar)
