#!/usr/bin/env bash
# datasets 5.2.0, load_dataset("webdataset"): the fields of every sample's JSON, and their types, are those of the first
# five samples of the first tar. A field that only later samples have is dropped without a word; one that is null in the
# first five and text later stops the loading ("Couldn't cast array of type string to null"); empty text is kept.
# Why it matters here: author and licence of images are such fields. Where the first five images of a folder have none,
# leaving the fields out loses them for all images, and null does not load; so `spurious shards` writes empty text.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "datasets==5.2.0" "pillow==12.0.0"
cd "$folder"
HF_HOME="$folder/hf" HF_DATASETS_DISABLE_PROGRESS_BARS=1 HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import io
import json
import sys
import tarfile

import datasets
from PIL import Image

print("datasets", datasets.__version__)
datasets.logging.set_verbosity_error()


def pack(path, metas):
    with tarfile.open(path, "w") as tar:
        for number, meta in enumerate(metas):
            image = io.BytesIO()
            Image.new("RGB", (8, 8), (number, 0, 0)).save(image, "JPEG")
            for ending, data in (("jpg", image.getvalue()), ("json", json.dumps(meta).encode())):
                member = tarfile.TarInfo(f"{number:03d}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def author_of_the_last(first):
    """Six images whose JSON is `first`, then one with an author; what load_dataset says of that one."""
    name = "-".join(["x", *map(str, first.values())])
    pack(f"{name}.tar", [{"file": "a", **first}] * 6 + [{"file": "b", "author": "Doe"}])
    try:
        rows = datasets.load_dataset("webdataset", data_files=f"{name}.tar", split="train")
    except datasets.exceptions.DatasetGenerationError as error:
        return f"error: {error.__cause__}"
    return rows[6]["json"].get("author", "(no such field)")


seen = {
    "left out": author_of_the_last({}),
    "null": author_of_the_last({"author": None}),
    "empty text": author_of_the_last({"author": ""}),
}
for given, said in seen.items():
    print(f"author {given} in the first six samples, 'Doe' in the seventh -> {said}")
expected = {
    "left out": "(no such field)",
    "null": "error: Couldn't cast array of type string to null",
    "empty text": "Doe",
}
sys.exit(0 if seen == expected else "the behaviour has changed")
PYTHON
