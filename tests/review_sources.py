"""What other stages hand to a review: candidates in shards, boards, a planted world's truth and its check."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from helpers import jpeg

from spurious_imagenet.builders.boards._schema import BOARDS
from spurious_imagenet.builders.mining._schema import CANDIDATES
from spurious_imagenet.io import sha256_file
from spurious_imagenet.planted._world import TRUTH_SCHEMA

CLASSES = ("c0", "c1")
CONCEPTS = ("npca/c0/0", "npca/c0/1", "npca/c1/0")
#: The planted cue's component; see ``write_check``.
CUE = {"npca/c0/0": "grass", "npca/c1/0": "waves"}
#: What each pool image shows: object, cues.
POOL: tuple[tuple[str | None, tuple[str, ...]], ...] = (
    (None, ("grass",)),
    (None, ("waves",)),
    ("c0", ("grass",)),
    ("c1", ("grass", "waves")),
    ("c1", ()),
    (None, ()),
)


def pool_images() -> list[bytes]:
    """Return the pool's image files."""
    return [jpeg(seed) for seed in range(len(POOL))]


def write_candidates(folder: Path) -> Path:
    """Write every pool image as kept candidate of every concept, and one reserve each; two shards."""
    folder.mkdir(parents=True)
    places = {}
    for shard in range(2):
        path = folder.parent / f"pool-{shard}.tar"
        with tarfile.open(path, "w") as tar:
            for i in range(shard, len(POOL), 2):
                data = pool_images()[i]
                info = tarfile.TarInfo(f"k{i}.jpg")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                places[member.name] = (str(path), member.offset_data, member.size)
    rows = [_candidate(concept, i, places[f"k{i}.jpg"]) for concept in CONCEPTS for i in range(len(POOL))]
    rows += [_candidate(concept, 0, places["k0.jpg"]) | {"status": "reserve", "rank": 99} for concept in CONCEPTS]
    pq.write_table(pa.Table.from_pylist(rows, schema=CANDIDATES), folder / "candidates.parquet")
    digest = sha256_file(folder / "candidates.parquet")
    (folder / "receipt.json").write_text(json.dumps({"outputs_sha256": {"candidates.parquet": digest}}))
    return folder


def _candidate(concept: str, image: int, place: tuple[str, int, int]) -> dict[str, object]:
    shard, offset, size = place
    _, class_id, component = concept.split("/")
    return {
        "concept_id": concept,
        "class_id": class_id,
        "class_name": f"class {class_id}",
        "component": int(component),
        "rank": image + 1,
        "alpha": 5.0 - image,
        "status": "kept",
        "key": f"k{image}",
        "member": f"k{image}.jpg",
        "shard": shard,
        "offset": offset,
        "size": size,
        "sha256": hashlib.sha256(pool_images()[image]).hexdigest(),
    }


def write_boards(folder: Path) -> Path:
    """Write one board per concept, as ``spurious boards`` lays them out."""
    rows = []
    for number, concept in enumerate(CONCEPTS):
        _, class_id, component = concept.split("/")
        card = f"cards/{int(class_id[1]):05d}"
        (folder / card).mkdir(parents=True, exist_ok=True)
        (folder / card / f"npca-{int(component):04d}.png").write_bytes(jpeg(100 + number))
        (folder / card / "reference-0.jpg").write_bytes(jpeg(200 + number))
        rows.append(
            {
                "concept_id": concept,
                "kind": "npca",
                "class_index": int(class_id[1]),
                "class_id": class_id,
                "class_name": f"class {class_id}",
                "component": int(component),
                "name": "green things" if number == 0 else "",
                "png": f"{card}/npca-{int(component):04d}.png",
                "html": f"{card}/npca-{int(component):04d}.html",
                "reference": [f"{card}/reference-0.jpg"],
                "weights_sha256": "ab" * 32,
            }
        )
    pq.write_table(pa.Table.from_pylist(rows, schema=BOARDS), folder / "boards.parquet")
    return folder


def write_world(folder: Path) -> Path:
    """Write the truth of the pool, as ``spurious planted world`` does."""
    (folder / "truth").mkdir(parents=True)
    about = {
        "pairs": [{"class_id": "c0", "cue": "grass", "share": 0.5}, {"class_id": "c1", "cue": "waves", "share": 0.5}]
    }
    (folder / "truth" / "world.json").write_text(json.dumps(about))
    rows = [
        {
            "split": "pool",
            "file": f"pool/{i}.jpg",
            "mask": "",
            "sha256": hashlib.sha256(data).hexdigest(),
            "class_id": class_id,
            "cues": list(cues),
            "own_cue": False,
        }
        for i, (data, (class_id, cues)) in enumerate(zip(pool_images(), POOL, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA), folder / "truth" / "truth.parquet")
    return folder


def write_check(folder: Path) -> Path:
    """Write which component is which cue, as ``spurious planted check`` does."""
    folder.mkdir()
    pairs = [{"concept_id": concept, "cue": cue} for concept, cue in CUE.items()]
    (folder / "check.json").write_text(json.dumps({"pairs": pairs}))
    return folder
