#!/usr/bin/env bash
# datasets 5.2.0, load_dataset("webdataset"): each ending is a column of its own. A .png among the first five samples of a
# tar of .jpg is refused (ValueError: "don't share the same prefix or the same types"), as is .jpeg beside .jpg; a .png
# after the fifth sample is read as a row without an image, with no warning.
# Why it matters here: folders of images hold both. `spurious shards` packs .jpeg as .jpg where a folder has both, and
# says before packing which types lie in the folder and that each is to be packed by itself for datasets.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "datasets==5.2.0" "pillow==12.0.0"
cd "$folder"
HF_HOME="$folder/hf" HF_DATASETS_DISABLE_PROGRESS_BARS=1 HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
import tarfile

import datasets
from PIL import Image

print("datasets", datasets.__version__)
FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG"}


def images_of(name, endings):
    """Pack one image per ending; return how many rows load_dataset gives, and how many of them have an image."""
    with tarfile.open(f"{name}.tar", "w") as tar:
        for number, ending in enumerate(endings):
            image = io.BytesIO()
            Image.new("RGB", (8, 8), (number, 0, 0)).save(image, FORMATS[ending])
            member = tarfile.TarInfo(f"{number:03d}.{ending}")
            member.size = len(image.getvalue())
            tar.addfile(member, io.BytesIO(image.getvalue()))
    try:
        rows = datasets.load_dataset("webdataset", data_files=f"{name}.tar", split="train")
    except ValueError as error:
        return f"ValueError: …{str(error).partition('but')[2]}"
    columns = [c for c in rows.column_names if not c.startswith("__")]
    return f"{len(rows)} rows, {sum(any(row[c] is not None for c in columns) for row in rows)} images, columns {columns}"


seen = {
    ".png as the third": images_of("third", ["jpg", "jpg", "png", "jpg", "jpg", "jpg"]),
    ".jpeg as the third": images_of("jpeg", ["jpg", "jpg", "jpeg", "jpg", "jpg", "jpg"]),
    ".png as the sixth": images_of("sixth", ["jpg", "jpg", "jpg", "jpg", "jpg", "png"]),
}
for given, said in seen.items():
    print(f"five .jpg and one {given} -> {said}")
refused = "ValueError: … the files in the archive don't share the same prefix or the same types."
expected = {
    ".png as the third": refused,
    ".jpeg as the third": refused,
    ".png as the sixth": "6 rows, 5 images, columns ['jpg']",
}
sys.exit(0 if seen == expected else "the behaviour has changed")
PYTHON
