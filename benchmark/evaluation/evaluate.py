"""Evaluating a model on a dataset of spurious images (SFE §7.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from spurious_imagenet.benchmark.evaluation._checks import check_classes, check_labels, check_transform, labels_remark
from spurious_imagenet.benchmark.evaluation._forward_cache import EvalOptions, ForwardCache, describe_transform
from spurious_imagenet.benchmark.evaluation._output_cache import OutputCache
from spurious_imagenet.benchmark.evaluation.gaps import gap_record
from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.benchmark.evaluation.summary import summarise
from spurious_imagenet.benchmark.mitigation.load import LogitMitigation, load_mitigation
from spurious_imagenet.datasets.labelled import LabelledImages
from spurious_imagenet.datasets.manifest import images_sha256
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.datasets.spurious import SpuriousDataset
from spurious_imagenet.errors import ConfigError, ModelError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS
from spurious_imagenet.images import CustomTransform, Preprocess, Protocol
from spurious_imagenet.models import LabelSpace
from spurious_imagenet.models.inference import softmax, top_k
from spurious_imagenet.models.labels import guessed_label_space
from spurious_imagenet.models.spec import short_name

if TYPE_CHECKING:
    from torch import nn

    from spurious_imagenet.models import Classifier

__all__ = ["evaluate", "measure"]

Transform = Preprocess | Callable[[Any], Any]

_ROWS = 512


def evaluate(
    model: str | Classifier | nn.Module,
    dataset: str | Path | Any,
    val: str | Path,
    *,
    protocol: Protocol | Literal["paper", "standard"] = Protocol.PAPER,
    transform: Transform | None = None,
    labels: LabelSpace | None = None,
    image_size: int | None = None,
    device: str = "auto",
    backend: str = "auto",
    workers: int | None = None,
    outputs: str | Path | None = None,
    rankings: str | Path | Rankings | None = None,
    mitigations: Sequence[str | Path] = (),
    max_label_problems: float = MAX_LABEL_PROBLEMS,
    resamples: int = 1000,
    seed: int = 0,
    name: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> EvalRecord:
    """Measure how much a model relies on the spurious features of a dataset.

    Args:
        model: A model spec, a Classifier, or any ``torch.nn.Module`` from normalised images to logits.
        dataset: A published dataset: folder, Hub id or ``datasets.Dataset``.
        val: Validation images: shards, or a folder with one sub-folder per class. Those of every class that the model
            knows are classified.
        protocol: How images are prepared; see :class:`~spurious_imagenet.images.Protocol`.
        transform: For a bare module: its transform. A callable can only be used with ``protocol="standard"``.
        labels: For a bare module: its label space; ImageNet-1k where left out.
        image_size: For a spec: input side that overrides the model's own, px.
        device: Where to run.
        backend: How to run; see :data:`~spurious_imagenet.models.BACKENDS`.
        workers: Decoding threads.
        outputs: Folder in which features and logits of the images are kept, so that no later evaluation decodes them
            again and a killed one goes on; nothing is kept where left out.
        rankings: Folder of ``spurious rank``, or rankings: adds the spurious gaps of the validation images (SR §4.2).
        mitigations: Files of ``spurious spufix`` or ``spurious tune``; each adds a record to the result's
            ``mitigated``, from the same features and logits.
        max_label_problems: Largest share of the validation images whose label may be of no use, in [0, 1].
        resamples: Bootstrap resamples of the confidence intervals.
        seed: Of the resamples; models compared with each other need the same.
        name: A short name for tables; made of the spec where left out.
        progress: Called with the number of images that were done since the last call.

    Returns:
        Per-class and per-concept values and their means; higher ``spurious_ap`` and ``spurious_auc`` are better.
        ``record.save(path)`` writes the per-image predictions beside the record.

    Raises:
        ConfigError: The protocol or the transform cannot be used.
        DataError: A class of the dataset has no validation images, more of their labels than allowed cannot be
            used, or a spurious image cannot be read.
        ModelError: The model cannot be loaded, lacks a class of the dataset, gives NaN or infinite logits, or was given
            labels that are off by one.
        StoreError: ``outputs`` holds something else.

    Examples:
        >>> import datasets, tempfile, PIL.Image as pixels
        >>> row = {"class_id": "n01882714", "class_name": "koala", "concept_id": "", "image": pixels.new("L", (9, 9))}
        >>> with tempfile.TemporaryDirectory() as val:
        ...     Path(val, "n01882714").mkdir()
        ...     row["image"].save(Path(val, "n01882714", "black.png"))
        ...     evaluate("timm:test_resnet?pretrained=false", datasets.Dataset.from_list([row]), val).accuracy_images
        1
    """
    how = EvalOptions(
        outputs=Path(outputs) if outputs is not None else None,
        rankings=Rankings.load(rankings) if isinstance(rankings, str | Path) else rankings,
        rankings_name=str(rankings) if isinstance(rankings, str | Path) else "rankings",
        resamples=resamples,
        seed=seed,
        device=device,
        backend=backend,
        workers=workers,
        max_label_problems=max_label_problems,
        progress=progress,
    )
    classifier = _as_classifier(model, transform, labels, image_size)
    data = dataset if isinstance(dataset, SpuriousDataset) else SpuriousDataset(dataset)
    chosen = Protocol(protocol)
    first, *others = measure(
        classifier, data, str(val), how, {chosen: mitigations}, name=name or short_name(classifier.spec)
    )[chosen]
    return first.carrying(first.read_predictions(), tuple(others))


def measure(
    classifier: Classifier,
    data: SpuriousDataset,
    val: str,
    how: EvalOptions,
    wanted: Mapping[Protocol, Sequence[str | Path]],
    *,
    name: str,
) -> dict[Protocol, list[EvalRecord]]:
    """Measure one model under some protocols, each with some mitigations, from one pass over the images a transform.

    Returns:
        For each protocol the model's own record, then one for each of its mitigations; all carry their predictions.

    Raises:
        SpuriousImagenetError: See :func:`evaluate`.
    """
    check_classes(data.class_names, classifier)
    if isinstance(classifier.preprocess, CustomTransform):
        check_transform(classifier.preprocess, classifier.spec)
    for protocol in wanted:
        classifier.preprocess.for_protocol(protocol, "spurious")  # refused before anything is run
    applied = {p: [load_mitigation(file, classifier) for file in files] for p, files in wanted.items()}
    with _folder(how.outputs) as root:
        passes = ForwardCache(classifier, data, val, root, how)
        return {protocol: _records(passes, protocol, found, name) for protocol, found in applied.items()}


def _as_classifier(
    model: str | Classifier | nn.Module, transform: Transform | None, labels: LabelSpace | None, image_size: int | None
) -> Classifier:
    from spurious_imagenet.models import Classifier, load_classifier

    if isinstance(model, str):
        return load_classifier(model, image_size=image_size)
    if isinstance(model, Classifier):
        return model
    if transform is None:
        raise ConfigError("a bare torch.nn.Module needs its transform: pass transform=, a Preprocess or a callable.")
    return Classifier.from_module(model, transform, labels or _labels_of_module(model))


def _labels_of_module(model: nn.Module) -> LabelSpace:
    """Return what a timm module says of its outputs; of any other, ImageNet's classes, with a warning."""
    name = f"the module {type(model).__name__}"
    if getattr(model, "pretrained_cfg", None) and int(getattr(model, "num_classes", 0)) > 0:
        from spurious_imagenet.models.timm_labels import labels_of_timm

        return labels_of_timm(model, name)
    return guessed_label_space(1000, name)


@contextmanager
def _folder(outputs: Path | None) -> Iterator[Path]:
    if outputs is not None:
        yield outputs
        return
    with TemporaryDirectory(prefix="spurious-outputs-") as directory:
        yield Path(directory)


def _records(
    passes: ForwardCache, protocol: Protocol, mitigations: Sequence[LogitMitigation], name: str
) -> list[EvalRecord]:
    classifier = passes.classifier
    validation, spurious = passes.side(protocol, "validation"), passes.side(protocol, "spurious")
    own = _predictions((validation, spurious), classifier, None)
    check_labels(own, classifier.labels, classifier.spec)
    shared = {
        "code_version": version("spurious-imagenet"),
        "model": classifier.spec,
        "weights_sha256": classifier.weights_sha256,
        "label_space": classifier.labels.name,
        "protocol": protocol,
        "validation_transform": describe_transform(classifier.preprocess.for_protocol(protocol, "validation")),
        "spurious_transform": describe_transform(classifier.preprocess.for_protocol(protocol, "spurious")),
        "backend": passes.runner.backend.name,
        "dataset": passes.data.name,
        "dataset_sha256": images_sha256(spurious[0].table, ["class_id", "concept_id", "sha256"]),
        "validation": passes.val,
        "validation_sha256": images_sha256(validation[0].table, ["class_id", "sha256"]),
        "parameters": sum(p.numel() for p in classifier.network.parameters()),
        "validation_rejects": (*passes.seen.rejects, *((r.name, r.reason) for r in validation[0].rejects)),
    }
    records = []
    alike = Counter(m.record.kind for m in mitigations)
    for mitigation in (None, *mitigations):
        predictions = own if mitigation is None else _predictions((validation, spurious), classifier, mitigation)
        about: dict[str, Any] = {"name": name}
        if mitigation is not None:
            done = mitigation.record
            which = f" ({Path(done.file).stem})" if alike[done.kind] > 1 else ""
            about = {"name": f"{name} + {done.words}{which}", "mitigation": done}
        records.append(_record(predictions, passes, shared | about))
    return records


def _record(predictions: Predictions, passes: ForwardCache, about: dict[str, Any]) -> EvalRecord:
    how, gaps = passes.how, None
    summary = summarise(predictions, passes.data.class_names, how.resamples, how.seed)
    if how.rankings is not None:
        gaps = gap_record(predictions, how.rankings, resamples=how.resamples, seed=how.seed, where=how.rankings_name)
    remark = labels_remark(predictions, passes.classifier.labels)
    remarks = (*([remark] if remark else []), *passes.remarks())
    classes = {
        "accuracy_classes": int(predictions.of("validation")["class_id"].nunique()),
        "model_classes": len(passes.classifier.labels),
    }
    record = EvalRecord(**about, **vars(summary), **classes, gaps=gaps, remarks=remarks)
    return record.carrying(predictions)


def _predictions(
    sides: Sequence[tuple[LabelledImages, OutputCache]], classifier: Classifier, mitigation: LogitMitigation | None
) -> Predictions:
    """Read the outputs of all images in blocks; the rows come out in an order that only the images decide."""
    blocks = [
        _predicted(images.table.iloc[i : i + _ROWS], outputs, classifier, mitigation)
        for images, outputs in sides
        for i in range(0, len(images.table), _ROWS)
    ]
    return Predictions(pd.concat(blocks, ignore_index=True)).ordered()


def _predicted(
    rows: pd.DataFrame, outputs: OutputCache, classifier: Classifier, mitigation: LogitMitigation | None
) -> pd.DataFrame:
    features, logits = outputs.read(rows["sha256"].tolist())
    if mitigation is not None:
        logits = mitigation.corrected(features, logits)
        if not np.isfinite(logits).all():
            raise ModelError(
                f"{mitigation.record.file} makes NaN or infinite logits of {classifier.spec}: expected finite numbers."
            )
    labels, probability = classifier.labels, softmax(logits)
    ids = np.array(labels.class_ids, dtype=object)
    target = np.array([labels.index(c) for c in rows["class_id"]])
    best = top_k(logits, 5)
    return rows.assign(
        probability=probability[np.arange(len(rows)), target],
        predicted_id=ids[best[:, 0]],
        top5_id=ids[best].tolist(),
        top5_probability=np.take_along_axis(probability, best, axis=1).astype(np.float32).tolist(),
    )
