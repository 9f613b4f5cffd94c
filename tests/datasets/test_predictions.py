"""Predictions: their order, whatever the order in which they were made."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spurious_imagenet.datasets.predictions import Predictions, ordered

#: Side, class, concept, hash, name: in the order in which predictions are kept.
IMAGES = [
    ("validation", "a", None, "01", "x"),
    ("validation", "a", None, "02", "a"),
    ("validation", "a", None, "02", "b"),
    ("validation", "b", None, "00", "x"),
    ("spurious", "a", "a/0", "09", "x"),
    ("spurious", "a", "a/1", "03", "x"),
    ("spurious", "b", "b/0", "00", "x"),
]


def some_predictions() -> Predictions:
    keys = ("side", "class_id", "concept_id", "sha256", "name")
    said = {"probability": 0.5, "predicted_id": "a", "top5_id": ["a"], "top5_probability": [0.5]}
    return Predictions.from_rows({**dict(zip(keys, image, strict=True)), **said} for image in IMAGES)


def test_the_images_alone_decide_the_order() -> None:
    kept = some_predictions()
    for seed in range(5):
        shuffled = Predictions(kept.table.sample(frac=1, random_state=seed))
        pd.testing.assert_frame_equal(shuffled.ordered().table, kept.table)
        keys = ["side", "class_id", "concept_id", "name", "sha256"]
        pd.testing.assert_frame_equal(ordered(shuffled.table[keys]), kept.table[keys])


def test_equal_rows_stay_in_the_order_given() -> None:
    table = pd.concat([some_predictions().table.assign(probability=p) for p in (0.3, 0.1, 0.2)], ignore_index=True)
    found = Predictions(table).ordered().table
    assert found["probability"].tolist() == [0.3, 0.1, 0.2] * len(IMAGES)
    assert np.array_equal(found["sha256"].to_numpy()[::3], [image[3] for image in IMAGES])
