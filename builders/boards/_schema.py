"""The table of boards."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from spurious_imagenet.builders.boards._evidence import PERCENTILES

#: One row a board. Paths are relative to the boards directory; ``confidence`` is that of the class at the NPFV, null
#: without one; ``score_q05`` is the score that 5 % of the class's training images are below; ``weights_sha256`` says
#: which model's concept it is, so that what people say of it is put on no other.
BOARDS = pa.schema(
    [
        ("concept_id", pa.string()),
        ("kind", pa.string()),
        ("class_index", pa.int32()),
        ("class_id", pa.string()),
        ("class_name", pa.string()),
        ("component", pa.int32()),
        ("name", pa.string()),
        ("png", pa.string()),
        ("html", pa.string()),
        ("npfv", pa.string()),
        ("reference", pa.list_(pa.string())),
        ("confidence", pa.float32()),
        ("images", pa.int32()),
        *((f"score_q{percent:02d}", pa.float32()) for percent in PERCENTILES),
        ("weights_sha256", pa.string()),
    ]
)

_COPIED = ("concept_id", "kind", "class_index", "class_id", "class_name", "component", "name", "images")


def board_rows(content: dict[str, Any], weights_sha256: str) -> list[dict[str, Any]]:
    """Make a class's rows of the table of what its ``class.json`` holds and of the model's hash."""
    folder = f"cards/{content['name']}"
    reference = [f"{folder}/{file}" for file in content["references"]]
    return [
        {name: board[name] for name in _COPIED}
        | {"png": f"{folder}/{board['file']}.png", "html": f"{folder}/{board['file']}.html", "reference": reference}
        | {"npfv": f"{folder}/{board['file']}-npfv.png" if board["npfv"] else None}
        | {"confidence": board["npfv"]["confidence"] if board["npfv"] else None}
        | {f"score_q{percent:02d}": value for percent, value in board["percentiles"]}
        | {"weights_sha256": weights_sha256}
        for board in content["boards"]
    ]
