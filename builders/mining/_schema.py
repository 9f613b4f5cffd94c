"""The tables that mining writes; their types do not depend on what was found."""

from __future__ import annotations

import pyarrow as pa

_OPINION = pa.struct(
    [("model", pa.string()), ("class_id", pa.string()), ("class_name", pa.string()), ("probability", pa.float64())]
)

#: One row a candidate of a concept. ``models`` holds each voter's prediction and its probability of ``class_id``.
CANDIDATES = pa.schema(
    [
        ("concept_id", pa.string()),
        ("class_id", pa.string()),
        ("class_name", pa.string()),
        ("component", pa.int32()),
        ("rank", pa.int32()),
        ("alpha", pa.float32()),
        ("status", pa.string()),
        ("duplicate_of", pa.string()),
        ("votes", pa.int32()),
        ("models", pa.list_(_OPINION)),
        ("probability", pa.float64()),
        ("key", pa.string()),
        ("shard", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("meta_offset", pa.int64()),
        ("meta_size", pa.int64()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("pool_class_id", pa.string()),
    ]
)

#: One row per concept.
CONCEPTS = pa.schema(
    [
        ("concept_id", pa.string()),
        ("class_id", pa.string()),
        ("class_name", pa.string()),
        ("component", pa.int32()),
        ("found", pa.int32()),
        ("agreed", pa.int32()),
        ("near_duplicates", pa.int32()),
        ("kept", pa.int32()),
        ("enough", pa.bool_()),
    ]
)
