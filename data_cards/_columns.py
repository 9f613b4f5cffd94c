"""What the columns of published datasets mean: one wording for cards and Croissant files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from datasets import Features, List

#: Configs of ranked images: all of them, and the ends.
RANKED = ("rankings", "low", "middle", "high")

_MEANINGS = {
    "image": "the image file, byte for byte as it was found",
    "class_id": "id of the class",
    "class_name": "name of the class",
    "wnid": "WordNet id of the class",
    "cue": "what people call the spurious feature",
    "concept_name": "what people call the concept",
    "concept_id": "id of the concept in the bank that it was mined with",
    "component": "neural PCA component, or feature of a neuron, 0-based",
    "alpha": "contribution of the component to the logit of the class (α)",
    "rank": "1 is the highest α of the concept",
    "votes": "how many models take the image for the class",
    "models": "each model's prediction and its probability of the class",
    "model": "the model, without local folders",
    "probability": "the model's probability of the class, in [0, 1]",
    "verdicts": "what each labeler said; null if nobody looked",
    "labeler": "pseudonym",
    "outcome": "accept (cue, but not the object), reject, or unsure",
    "answer": "in the words of whoever asked",
    "date": "ISO 8601",
    "key": "key of the sample in its shard",
    "width": "pixels",
    "height": "pixels",
    "sha256": "of the image file",
    "perceptual_hash": "of the pixels, hexadecimal",
    "shard": "file that the image was read from",
    "shard_offset": "byte where the image file begins in the shard",
    "shard_size": "bytes",
    "source_id": "id in the collection that the image came from, such as OpenImages' ImageID",
    "license": "licence of the image, as its source says",
    "author": "author, as its source says",
    "title": "title, as its source says",
    "landing_url": "page of the original",
    "original_url": "file of the original",
    "metadata": "everything else that came with the sample, as JSON",
    "board": "what labelers saw of the concept",
    "images": "images of the concept in the dataset",
    "verdict": "spurious, core or unclear",
    "verdict_source": "who asked",
    "reason": "why",
    "since": "first version without the image",
    "split": "split of the ranked images",
    "name": "key of the image where it was read, or what people call the concept",
    "control": "the class has no spurious concept and was ranked by those of all others",
    "spuriosity": "in standard deviations; higher is more of the cues",
    "of": "images of the class",
    "percentile": "(rank - 1/2) / of",
    "ranked_split": "low, middle, high or null",
    "concept_ids": "concepts by which the image was ranked",
    "concept_scores": "their scores before standardising",
    "kind": "how the concept was found, such as npca or neuron",
    "class_index": "index of the class among the model's outputs",
    "source": "who asked",
    "weights_sha256": "hash of the weights of the model whose concept was judged",
    "confidence": "on the scale of whoever asked; higher is surer",
    "time": "ISO 8601",
    "alpha_min": "smallest α of the concept's images",
    "alpha_max": "largest α of the concept's images",
    "found": "candidates of the concept",
    "agreed": "of these, taken for the class by enough models",
    "near_duplicates": "of these, left out as near-duplicates",
    "kept": "of these, kept",
    "eigenvalue": "of the component's covariance matrix",
    "explained_share": "share of the variance that the component explains, in [0, 1]",
    "train_images": "training images from which the component was made",
    "train_alpha_median": "median α of the class's training images",
    "train_alpha_max": "largest α of the class's training images",
}
#: Where a column's meaning depends on the config.
_IN_CONFIG = {
    **{(config, "rank"): "1 is the lowest spuriosity of the class in its split" for config in RANKED},
    **{(config, "name"): "key of the image where it was read" for config in RANKED},
    ("annotations", "name"): "what people call the concept",
    ("concepts", "name"): "what people call the concept",
    ("retired", "reason"): "why the image was retracted",
}


class Column(NamedTuple):
    """A column as the card shows it."""

    name: str
    type: str
    meaning: str


def meaning(column: str, config: str = "", *, listed: bool = False) -> str:
    """Say what a column, or a field inside one, holds; empty where there is nothing beyond its name.

    Args:
        column: Its name.
        config: Where it stands.
        listed: It holds lists: votes are numbers in one place and what each person said in another.
    """
    if column == "votes" and listed:
        return "what each labeler said"
    return _IN_CONFIG.get((config, column), _MEANINGS.get(column, ""))


def columns_of(features: Features, config: str = "") -> list[Column]:
    """Return the columns of a config with their types and meanings."""
    return [
        Column(name, _type(feature), meaning(name, config, listed=isinstance(feature, List)))
        for name, feature in features.items()
    ]


def column_tables(features: Mapping[str, Features]) -> list[tuple[list[str], list[Column]]]:
    """Return the columns of all configs; configs with the same columns share a table."""
    tables: list[tuple[list[str], list[Column]]] = []
    for config, found in features.items():
        columns = columns_of(found, config)
        same = next((configs for configs, own in tables if own == columns), None)
        if same is None:
            tables.append(([config], columns))
        else:
            same.append(config)
    return tables


def _type(feature: object) -> str:
    if isinstance(feature, dict):
        return "{" + ", ".join(feature) + "}"
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return f"list of {_type(inner)}"
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else type(feature).__name__.lower()
