"""MosaicML streaming over packs of token ids; runs in the peers' environment: python _mosaic.py PACKS.json

Writes them once beside the file, and prints the tokens/s of one reader that shuffles.
"""

from __future__ import annotations

import json
import sys
import time
import types
from pathlib import Path


def main() -> None:
    """Writes where nothing is written yet, and reads everything."""
    # It imports torchvision for pictures, of which there are none here; transformers asks first whether there is one.
    import transformers  # noqa: F401

    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]
    sys.modules["torchvision.datasets"].VisionDataset = object  # type: ignore[attr-defined]
    import numpy as np
    from streaming import MDSWriter, StreamingDataset
    from torch.utils.data import DataLoader

    packs = Path(sys.argv[1])
    folder = packs.with_name("mosaic")
    if not folder.exists():
        with MDSWriter(out=str(folder), columns={"ids": "bytes"}, compression="zstd") as writer:
            for ids in json.loads(packs.read_text()):
                writer.write({"ids": np.asarray(ids, np.int32).tobytes()})
    dataset = StreamingDataset(local=str(folder), shuffle=True, batch_size=1)
    tokens, began = 0, 0.0
    for _ in range(4):
        for sample in DataLoader(dataset, batch_size=None):
            tokens += len(np.frombuffer(sample["ids"], np.int32))
            if not began:
                began, tokens = time.perf_counter(), 0
    print(tokens / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
