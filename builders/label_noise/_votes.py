"""What several models say of the ranked images, in the order of the ranking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.benchmark.evaluation.gaps import predictions_of_store
from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.labels import LabelSpace

#: Probabilities below this count as this: what float32 makes of a smaller one is rounding.
LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True, eq=False)
class ModelVotes:
    """What the models say of n images.

    Attributes:
        models: (m,) their names.
        predicted: (n, m) class ids, those of the highest logits.
        log_odds: (n, m) float64 log p(predicted) - log p(label), at least 0; 0 where the label is predicted.
    """

    models: tuple[str, ...]
    predicted: NDArray[np.object_]
    log_odds: NDArray[np.float64]


def read_predictions(records: tuple[str, ...], features: tuple[str, ...]) -> dict[str, Predictions]:
    """Read the predictions of each model, by a name that tells the models apart.

    Raises:
        DataError: A record or its predictions cannot be read, or one file is given twice.
        StoreError: A feature store cannot be read.
    """
    found: dict[str, Predictions] = {}
    for path in records:
        record = EvalRecord.load(path)
        found[_unused(found, record.name, path)] = Predictions.load(Path(path).parent / record.predictions)
    for path in features:
        store = FeatureStore.open(path)
        labels = LabelSpace(store.config.label_space, store.config.class_ids, store.config.class_ids)
        name = Path(store.config.model.split("?")[0]).stem
        found[_unused(found, name.removeprefix("file:"), path)] = predictions_of_store(store, labels)
    return found


def _unused(found: Mapping[str, Predictions], name: str, path: str) -> str:
    """Name a model; where two have one name, by its file as well."""
    if name not in found:
        return name
    if (longer := f"{name} ({path})") in found:
        raise DataError(f"{path} is given twice: expected each model's predictions once.")
    return longer


def ranked_images(rankings: Rankings) -> pd.DataFrame:
    """Return the ranked images of the classes that have spurious concepts of their own, by class and rank.

    Raises:
        DataError: There are none.
    """
    table = rankings.table
    own = table[~table["control"].astype(bool)].sort_values(["class_id", "rank"], kind="stable")
    if own.empty:
        raise DataError("the rankings hold controls only: expected classes with spurious concepts.")
    return own.reset_index(drop=True)


def votes_on(images: pd.DataFrame, predictions: Mapping[str, Predictions]) -> ModelVotes:
    """Put the predictions of each model in the order of the images.

    Args:
        images: Rows of rankings; matched by class and hash.
        predictions: Model -> its predictions.

    Raises:
        DataError: A model has no prediction of a ranked image.
    """
    predicted = np.empty((len(images), len(predictions)), dtype=object)
    odds = np.empty(predicted.shape)
    for column, (model, found) in enumerate(predictions.items()):
        rows = found.of("validation").drop_duplicates(["class_id", "sha256"])
        joined = images[["class_id", "sha256"]].merge(rows, how="left", on=["class_id", "sha256"])
        missing = joined["predicted_id"].isna().to_numpy()
        if missing.any():
            first = images.iloc[int(missing.argmax())]
            raise DataError(
                f"{model} has no prediction of {int(missing.sum())} of {len(images)} ranked images, such as "
                f"{first['name']!r} of class {first['class_id']}: expected the predictions of the ranked split."
            )
        predicted[:, column] = joined["predicted_id"]
        odds[:, column] = _log_odds(joined)
    return ModelVotes(tuple(predictions), predicted, odds)


def _log_odds(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return log p(predicted) - log p(label) of each row.

    A feature store knows the five likeliest classes only. For a label below the fifth the most that it can have is
    taken, so that such an image never looks more suspicious than it is.
    """
    five = np.array([[*p, *[0.0] * 5][:5] for p in rows["top5_probability"]], dtype=np.float64)
    known = rows["probability"].to_numpy(dtype=np.float64)
    most = np.minimum(np.where(five > 0, five, 1.0).min(axis=1), 1.0 - five.sum(axis=1))
    label = np.maximum(np.where(known > 0, known, most), LEAST_PROBABILITY)
    odds = np.log(np.maximum(five[:, 0], LEAST_PROBABILITY)) - np.log(label)
    right = (rows["predicted_id"] == rows["class_id"]).to_numpy(dtype=bool)
    return np.asarray(np.where(right, 0.0, np.maximum(odds, 0.0)))
