"""A model version's tables, mapped from its file: processes share the pages, and none is copied."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def mapped_tables(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read-only float32 tables by name, of a safetensors file that was verified before."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    length = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8 : 8 + length].tobytes())
    tables = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            tables[name] = data[start:end].view(np.float32).reshape(entry["shape"])
    return tables
