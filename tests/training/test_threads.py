"""torch's threads belong to the thread that trains; those beside it, such as gloo's, compute alone."""

from __future__ import annotations

import json
import subprocess
import sys

_PROGRAM = """
import json
from concurrent.futures import ThreadPoolExecutor
import torch
from crlft_ray.config import load_config
from crlft_ray.device import prepare_process

config = load_config("jobs/configs/quickstart.yaml", ["train.threads_per_worker=3"])

def counts():
    prepare_process(config)
    torch.ones(1 << 20).sum()
    with ThreadPoolExecutor(1) as beside:
        return torch.get_num_threads(), beside.submit(torch.get_num_threads).result()

# Ray Train's workers train in a thread of their own.
with ThreadPoolExecutor(1) as trains:
    print(json.dumps(trains.submit(counts).result()))
"""


def test_only_the_training_thread_has_a_pool() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    assert json.loads(done.stdout) == [3, 1]
