"""The controller reads Kubernetes from several threads, which msgspec takes ill when it begins."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
READ = """
import sys, threading
from lightkube.core import decoders
from sandbox import pods

pods.learn_kinds()
sys.setswitchinterval(1e-6)
kinds = [*pods.KINDS, *pods.CLUSTER_KINDS, pods.Pod, pods.PersistentVolumeClaim] * 2
together = threading.Barrier(len(kinds))

def read(kind):
    together.wait()
    decoders.decode_list(b'{"items": []}', kind)

threads = [threading.Thread(target=read, args=(kind,)) for kind in kinds]
for it in threads:
    it.start()
for it in threads:
    it.join()
"""


def test_threads_that_read_at_once_do_not_crash_the_controller() -> None:
    """Without `learn_kinds` it is a segmentation fault, most times."""
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", READ], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
