"""Split a lock into what is the same on every machine and torch with what only its builds bring.

python install/split_lock.py LOCK FOLDER
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

#: Each build of torch has other files, and only some builds need the others at all.
_TORCH = re.compile(r"(torch|torchvision|triton|nvidia-[\w-]+|cuda-[\w-]+)==")

_HEADS = {
    "lock.txt": "# What is installed and tested, torch and what its builds bring left out. Written by `make lock`.\n",
    "lock-torch.txt": "# Torch as a package index gives it: with CUDA on Linux. Written by `make lock`.\n",
}


def main(lock: str, folder: str) -> None:
    """Write ``lock.txt`` and ``lock-torch.txt``."""
    entries = re.split(r"\n(?=\S)", Path(lock).read_text(encoding="utf-8").strip())
    parts: dict[str, list[str]] = {name: [] for name in _HEADS}
    for entry in entries:
        if entry.startswith("-e ") or "file:" in entry:
            continue
        parts["lock-torch.txt" if _TORCH.match(entry) else "lock.txt"].append(entry)
    for name, own in parts.items():
        (Path(folder) / name).write_text(_HEADS[name] + "\n".join(own) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
