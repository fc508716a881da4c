"""The environment of the trainers that we are compared with; never the project's own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from crlft_ray.assets.cache import cache_folder

_TRAINERS = ("trl==1.16.0", "numba>=0.60", "pandas", "orjson", "ray[data]")
_STREAMING = ("Brotli", "python-snappy", "zstd", "xxhash", "boto3", "catalogue", "pillow")
_REQUIREMENTS = (*_TRAINERS, *_STREAMING)
# Their own requirements include CUDA kernels, and clients of clouds for older versions of what we use; what is used
# here needs none of them.
_ALONE = ("ochat==3.6.1", "mosaicml-streaming==0.13.0")


def peer_python() -> Path:
    """Python of an environment with TRL, OpenChat's package and MosaicML streaming, made when first asked for."""
    named = hashlib.sha256(" ".join((sys.version, *_REQUIREMENTS, *_ALONE)).encode()).hexdigest()[:12]
    folder = cache_folder() / f"peers-{named}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        constraints = Path(__file__).parents[2] / "constraints.txt"
        # The same torch and transformers as ours: what is compared is the trainers.
        subprocess.run([*install, "--constraint", str(constraints), *_REQUIREMENTS], check=True)
        subprocess.run([*install, "--no-deps", *_ALONE], check=True)
        (folder / "complete").touch()
    return python
