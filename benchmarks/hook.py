"""CPU seconds to load each charm over those to `import ops`: what every hook pays first.

Each run is a fresh interpreter; charms and ops take turns, so that all see the same machine. As in
a pod, charm.py is compiled each time and all that it imports is byte code.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
LIMIT = 1.5
LOAD = """\
import sys, time
begun = time.process_time()
if len(sys.argv) > 1:
    exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), {"__name__": "charm"})
else:
    import ops
print(time.process_time() - begun)
"""


def load(charm: Path | None, byte_code: str) -> float:
    """Return the CPU seconds to load a charm, or ops for None, in a fresh interpreter."""
    environment = {it: os.environ[it] for it in ("PATH", "LANG") if it in os.environ}
    command = [sys.executable, "-X", f"pycache_prefix={byte_code}", "-c", LOAD]
    if charm:
        environment["PYTHONPATH"] = str(charm.parent)
        command.append(str(charm))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(runs: int) -> Mapping[str, list[float]]:
    """Return the CPU seconds of every run, for "ops" and for each charm."""
    charms = {path.parts[-3]: path for path in sorted(ROOT.glob("charms/*/src/charm.py"))}
    subjects: dict[str, Path | None] = {"ops": None, **charms}
    seen: dict[str, list[float]] = {name: [] for name in subjects}
    with tempfile.TemporaryDirectory() as byte_code:
        for path in subjects.values():
            load(path, byte_code)
        for _ in range(runs):
            for name, path in subjects.items():
                seen[name].append(load(path, byte_code))
    return seen


def main() -> int:
    """Measure, tell, and return 1 if a charm is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    given = parser.parse_args()
    seen = measure(given.runs)
    ops = seen["ops"]
    rows = [
        {
            "name": name,
            "minimum": round(min(it), 4),
            "median": round(statistics.median(it), 4),
            "ratio": round(min(it) / min(ops), 2),
            "ratio of medians": round(statistics.median(it) / statistics.median(ops), 2),
        }
        for name, it in seen.items()
    ]
    slow = [f"{it['name']} {it['ratio']}" for it in rows if it["ratio"] > LIMIT]
    verdict = f"over {LIMIT}: {', '.join(slow)}" if slow else f"every charm within {LIMIT}"
    if given.format == "json":
        print(json.dumps({"runs": given.runs, "limit": LIMIT, "loads": rows, "verdict": verdict}))
    else:
        table = Table(*rows[0], box=None, pad_edge=False)
        for it in rows:
            table.add_row(*map(str, it.values()))
        Console().print(table)
        print(f"{verdict} ({given.runs} runs each; the ratio is of the minima)")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
