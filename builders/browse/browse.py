"""A gallery in FiftyOne: fields, saved views and, where there are features, a map of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spurious_imagenet.builders.browse.gallery import Gallery, feature_map
from spurious_imagenet.builders.fiftyone_app.app import plane
from spurious_imagenet.features.store import FeatureStore

__all__ = ["WORKSPACE", "build", "disagreeing"]

WORKSPACE = "browse"
_MAP = "features"
#: More classes than that are found by the view that groups by class, or by the filter beside the grid.
_CLASS_VIEWS = 40
_PLAIN = ("class_id", "concept_id", "component", "alpha", "rank", "status", "votes", "key", "sha256")


def build(fiftyone: Any, gallery: Gallery, images: Mapping[str, Path], features: FeatureStore | None = None) -> Any:
    """Make the FiftyOne dataset of a gallery, or take the one that was made of the same gallery and features.

    Args:
        fiftyone: The module, connected to a database of the gallery's own.
        gallery: What to show.
        images: SHA-256 of an image → its file.
        features: Features by which to lay the images out.

    Returns:
        The dataset, with its saved views and its workspace.

    Raises:
        DataError: The gallery cannot be read, or the features are of other images.
    """
    mark = {"gallery": gallery.identity, "features": str(features.path.resolve()) if features else None}
    name = gallery.source.name
    if fiftyone.dataset_exists(name) and (built := fiftyone.load_dataset(name)).info == mark:
        return built
    for other in fiftyone.list_datasets():
        fiftyone.delete_dataset(other)
    rows = gallery.rows()
    dataset = fiftyone.Dataset(name, persistent=True)
    fields = _fields_of_models(rows)
    samples = (_sample(fiftyone, row, images, fields) for row in rows)
    dataset.add_samples(samples, num_samples=len(rows), dynamic=False)
    _save_views(fiftyone, dataset, rows)
    if features is not None:
        _lay_out(dataset, features)
    dataset.save_workspace(WORKSPACE, _layout(fiftyone, features is not None))
    dataset.app_config.active_fields = fiftyone.ActiveFields(paths=["class", "alpha"])
    dataset.info = mark  # last: what was built in part is built again
    dataset.save()
    return dataset


def disagreeing(row: Mapping[str, Any]) -> dict[str, bool]:
    """Say whether models, and labelers, differ about an image.

    Args:
        row: A dataset's or a candidate's row.

    Returns:
        ``models_disagree``: not every model predicts the class; ``labelers_disagree``, where somebody judged the
        image: their outcomes are not all one.
    """
    predicted = {opinion["class_id"] for opinion in row.get("models") or ()}
    said = {verdict["outcome"] for verdict in row.get("verdicts") or ()}
    found = {"models_disagree": bool(predicted - {row["class_id"]})}
    return found | ({"labelers_disagree": len(said) > 1} if said else {})


def _sample(fo: Any, row: Mapping[str, Any], images: Mapping[str, Path], fields: Mapping[str, str]) -> Any:
    sample = fo.Sample(filepath=str(images[row["sha256"]]), **{n: row[n] for n in _PLAIN if row.get(n) is not None})
    sample["class"] = fo.Classification(label=row["class_name"])
    for opinion in row.get("models") or ():
        label = fo.Classification(label=opinion["class_name"], probability_of_class=opinion["probability"])
        sample[fields[opinion["model"]]] = label
    for verdict in row.get("verdicts") or ():
        sample[f"labeler_{_word(verdict['labeler'])}"] = str(verdict["outcome"])
    for name, value in disagreeing(row).items():
        sample[name] = value
    return sample


def _fields_of_models(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Give each model a field: by the short form of its spec, or all of it where two have one short form."""
    specs = sorted({opinion["model"] for row in rows for opinion in row.get("models") or ()})
    short = {spec: _word(spec.partition("?")[0].rsplit("/", 1)[-1].rsplit(":", 1)[-1]) for spec in specs}
    unique = len(set(short.values())) == len(specs)
    return {spec: f"model_{short[spec] if unique else _word(spec)}" for spec in specs}


def _word(text: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in text)


def _save_views(fo: Any, dataset: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    dataset.save_view("By alpha", dataset.sort_by("alpha", reverse=True), description="Strongest first.")
    for field, name in (("class.label", "By class"), ("concept_id", "By concept")):
        grouped = dataset.group_by(field, order_by="alpha", reverse=True)
        dataset.save_view(name, grouped, description="One image a group; open it for the others.")
    for field, name in (("models_disagree", "Models disagree"), ("labelers_disagree", "Labelers disagree")):
        if dataset.has_sample_field(field):
            view = dataset.match(fo.ViewField(field)).sort_by("alpha", reverse=True)
            dataset.save_view(name, view, description="Not everybody says the same of these.")
    for status in sorted({row["status"] for row in rows if row.get("status")}):
        dataset.save_view(f"Status: {status}", dataset.match(fo.ViewField("status") == status))
    names = sorted({row["class_name"] for row in rows})
    for name in names if len(names) <= _CLASS_VIEWS else ():
        of_class = dataset.match(fo.ViewField("class.label") == name).sort_by("alpha", reverse=True)
        dataset.save_view(f"Class: {name}", of_class)


def _lay_out(dataset: Any, features: FeatureStore) -> None:
    hashes, ids = dataset.values(["sha256", "id"])
    found, places = feature_map(features, hashes)
    place_of = dict(zip(found, places, strict=True))
    known = [(i, place_of[h]) for i, h in zip(ids, hashes, strict=True) if h in place_of]
    view = dataset.select([i for i, _ in known], ordered=True)
    plane(view, np.stack([place for _, place in known]), _MAP)


def _layout(fo: Any, mapped: bool) -> Any:
    panels = [fo.Panel(type="Samples", pinned=True)]
    if mapped:
        state = {"brainResult": _MAP, "colorByField": "class.label"}
        panels.append(fo.Panel(type="Embeddings", state=state))
    spaces = [fo.Space(children=[panel], active_child=panel.component_id) for panel in panels]
    return fo.Space(children=spaces, orientation="horizontal", sizes=[1 / len(spaces)] * len(spaces))
