#!/usr/bin/env bash
# safetensors 0.8.0 (numpy 2.4.1): safetensors.numpy.save_file writes an array that is not contiguous as if it were.
# No error, no warning: it stores the memory that the array begins at, under the right shape, so that every second
# number of a longer array comes back as the first half of it. Its torch writer refuses such a tensor instead.
# Here: a concept bank's offsets were a column of a table, and other numbers were read back. spurious_imagenet.tensors
# is therefore the only writer, makes arrays contiguous first and compares what it reads back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

given = np.arange(8, dtype=np.float32)[::2]
save_file({"offsets": given}, "a.safetensors")
found = load_file("a.safetensors")["offsets"]
save_file({"offsets": np.ascontiguousarray(given)}, "b.safetensors")
contiguous = load_file("b.safetensors")["offsets"]

print("safetensors", safetensors.__version__, "numpy", np.__version__)
print("given:                  ", given.tolist())
print("read back:              ", found.tolist())
print("read back, contiguous:  ", contiguous.tolist())
same = found.tolist() == [0.0, 1.0, 2.0, 3.0] and contiguous.tolist() == given.tolist()
print("as described" if same else "the behaviour has changed")
sys.exit(0 if same else 1)
PYTHON
