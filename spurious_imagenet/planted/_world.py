"""Drawing a planted world: images, what is in them, and where; the same configuration gives the same bytes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from spurious_imagenet.io import atomic_directory, canonical_json
from spurious_imagenet.planted._contact import contact_sheet
from spurious_imagenet.planted._cues import draw_cue
from spurious_imagenet.planted._plan import ImagePlan, plan_world
from spurious_imagenet.planted._shapes import SHAPES, draw_shape
from spurious_imagenet.planted._textures import add_clutter, background, object_surface, paint
from spurious_imagenet.planted.config import LABEL_SPACE, WorldConfig, class_id_of
from spurious_imagenet.processes import process_pool

#: Values of the mask images; everything else is 0.
OBJECT_PIXEL, CUE_PIXEL = 1, 2

#: One row per image. ``file`` and ``mask`` are relative to the world's folder; ``class_id`` is the label, null in the
#: pool without an object; ``own_cue``: the image shows a cue that was planted in that class.
TRUTH_SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("file", pa.string()),
        ("mask", pa.string()),
        ("sha256", pa.string()),
        ("class_id", pa.string()),
        ("cues", pa.list_(pa.string())),
        ("own_cue", pa.bool_()),
    ]
)

#: The same of a world with wrong labels. ``shown_class_id`` is the class whose object the image shows.
WRONG_LABELS_SCHEMA = TRUTH_SCHEMA.append(pa.field("shown_class_id", pa.string()))

_MASK_PALETTE = (0, 0, 0, 255, 255, 255, 230, 60, 60)
_CHUNK = 64  # images drawn by a process before it reports


def _draw_object(rng: Generator, name: str, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    order = list(SHAPES).index(name)
    # Neighbouring classes lie far apart on the colour circle, and every class strays over others' hues.
    hue = (5 * order % len(SHAPES)) / len(SHAPES) + rng.normal(0, 0.045)
    coverage = draw_shape(
        name,
        size,
        center=(size * rng.uniform(0.34, 0.66), size * rng.uniform(0.34, 0.66)),
        radius=size * rng.uniform(0.24, 0.33),
        angle=rng.uniform(-0.45, 0.45),
        mirrored=bool(rng.integers(2)),
    )
    return object_surface(rng, size, hue), coverage


def render(plan: ImagePlan, config: WorldConfig) -> tuple[Image.Image, Image.Image]:
    """Draw one image and its mask.

    Args:
        plan: What to show.
        config: The world it belongs to.

    Returns:
        The RGB image, and a palette image of the same size that marks the visible pixels of the object
        (:data:`OBJECT_PIXEL`) and of the cue (:data:`CUE_PIXEL`).
    """
    size, rng = config.image_size, plan.rng(config.seed)
    image = background(rng, size)
    mask = np.zeros((size, size), dtype=np.uint8)
    add_clutter(rng, image, int(rng.integers(3, 7)))
    if plan.cue is not None:
        color, coverage = draw_cue(plan.cue, rng, size)
        paint(image, color, coverage)
        mask[coverage > 0.5] = CUE_PIXEL
    if plan.name is not None:
        color, coverage = _draw_object(rng, plan.name, size)
        paint(image, color, coverage)
        mask[coverage > 0.5] = OBJECT_PIXEL
    exposed = image * rng.uniform(0.8, 1.15) + rng.uniform(-15, 15) + rng.normal(0, 4, image.shape)
    labels = Image.fromarray(mask)
    labels.putpalette(_MASK_PALETTE)
    return Image.fromarray(np.clip(np.rint(exposed), 0, 255).astype(np.uint8)), labels


def _write_image(root: Path, config: WorldConfig, plan: ImagePlan) -> dict[str, object]:
    image, mask = render(plan, config)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=config.jpeg_quality)
    (root / f"{plan.stem}.jpg").write_bytes(buffer.getvalue())
    mask.save(root / "truth" / "masks" / f"{plan.stem}.png")
    name = plan.label or plan.name
    return {
        "split": plan.split,
        "file": f"{plan.stem}.jpg",
        "mask": f"truth/masks/{plan.stem}.png",
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "class_id": None if name is None else class_id_of(name),
        "cues": [] if plan.cue is None else [plan.cue],
        "own_cue": plan.cue is not None and name in config.holders(plan.cue),
        "shown_class_id": None if plan.name is None else class_id_of(plan.name),
    }


def _write_images(
    root: Path, config: WorldConfig, plans: Sequence[ImagePlan], workers: int
) -> Iterator[dict[str, object]]:
    write = partial(_write_image, root, config)
    if workers == 1:
        yield from map(write, plans)
        return
    with process_pool(workers) as pool:
        yield from pool.map(write, plans, chunksize=_CHUNK)


def _describe(config: WorldConfig) -> dict[str, object]:
    pairs = [{"class_id": class_id_of(p.name), "cue": p.cue, "share": p.share} for p in config.pairs]
    wrong = [
        {"class_id": class_id_of(w.name), "shown_class_id": class_id_of(w.other), "share": w.share}
        for w in config.mislabelled
    ]
    told: dict[str, object] = {
        "config": config.model_dump(mode="json"),
        "label_space": LABEL_SPACE,
        "class_ids": [class_id_of(name) for name in SHAPES],
        "class_names": list(SHAPES),
        "cues": list(config.cues),
        "pairs": pairs,
    }
    return told | {"mislabelled": wrong} if wrong else told


def write_world(
    out: str | Path,
    config: WorldConfig,
    *,
    workers: int = 1,
    on_image: Callable[[int, int], None] | None = None,
) -> None:
    """Draw a world into a new folder, whole or not at all.

    The folder holds ``train/<class id>/*.jpg``, ``val/<class id>/*.jpg`` and ``pool/*.jpg``; a ``contact.png`` to look
    at; and what is true: ``truth/truth.parquet`` (:data:`TRUTH_SCHEMA`; :data:`WRONG_LABELS_SCHEMA` where there are
    wrong labels), ``truth/world.json`` and ``truth/masks``.

    Args:
        out: Folder to appear.
        config: The world.
        workers: Processes that draw; the bytes do not depend on it.
        on_image: Called with how many images are done, and of how many.

    Raises:
        StoreError: ``out`` exists and is not empty.
    """
    plans = plan_world(config)
    with atomic_directory(out) as root:
        for folder in sorted({Path(plan.stem).parent for plan in plans}):
            (root / folder).mkdir(parents=True)
            (root / "truth" / "masks" / folder).mkdir(parents=True)
        rows = []
        for row in _write_images(root, config, plans, workers):
            rows.append(row)
            if on_image is not None:
                on_image(len(rows), len(plans))
        schema = WRONG_LABELS_SCHEMA if config.mislabelled else TRUTH_SCHEMA
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), root / "truth" / "truth.parquet")
        (root / "truth" / "world.json").write_text(canonical_json(_describe(config)), encoding="utf-8")
        contact_sheet(plans, config, lambda plan: render(plan, config)[0]).save(root / "contact.png")
