"""Running an entry again on some of its images: are these the weights, and do they say what was submitted?"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.datasets.labelled import LabelledImage, read_ahead
from spurious_imagenet.datasets.predictions import Side
from spurious_imagenet.datasets.spurious import SpuriousDataset
from spurious_imagenet.datasets.validation import SeenImages, validation_images
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.images import Protocol
from spurious_imagenet.leaderboard.entry import Entry, Verification
from spurious_imagenet.leaderboard.store.records import now
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.worker._specs import load_public
from spurious_imagenet.leaderboard.worker.run import Workplace
from spurious_imagenet.models import Classifier
from spurious_imagenet.models.inference import ImageRunner, softmax

__all__ = ["verify_entry"]

#: Probabilities of one model differ by less between devices, backends and decoders of JPEG.
_TOLERANCE = 0.01
Floats = NDArray[np.float64]
_KEY = ["side", "class_id", "sha256"]


def verify_entry(
    store: Store,
    entry_id: str,
    workplace: Workplace,
    *,
    images: int = 32,
    seed: int | None = None,
    tolerance: float = _TOLERANCE,
    model: str | None = None,
) -> Verification:
    """Run an entry's model again on some images, and keep what comes out.

    The images are drawn from a seed that nobody knows before: it is made here, after the entry was stored, and kept in
    the verification, by which anyone draws the same images again.

    Args:
        store: Where the entry is, and the verification goes.
        entry_id: The entry.
        workplace: The images, and how to run.
        images: How many; half of them spurious.
        seed: Of the sample; a random one where left out.
        tolerance: Largest difference of a probability that still agrees.
        model: Spec to load in place of the entry's own, such as that of a local file.

    Returns:
        Verified if the weights have the hash that the entry gives and every image agrees.

    Raises:
        ConfigError: The entry has no spec or a mitigation, so that its model cannot be run, or the spec is refused.
        ModelError: The model cannot be loaded.
        DataError: The images that were drawn are not among those given.
    """
    entry = store.entry(entry_id)
    spec = model or entry.info.spec
    if spec is None:
        raise ConfigError(f"entry {entry.id[:12]} has no spec: no one else can run its model.")
    if entry.info.mitigation is not None:
        raise ConfigError(
            f"entry {entry.id[:12]} has the mitigation {entry.info.mitigation!r}: a spec does not load it."
        )
    chosen = secrets.randbits(63) if seed is None else seed
    classifier = load_public(spec, workplace.allowed)
    sample = _sample(store.submitted(entry.id), images, chosen)
    differences = np.zeros(0)
    reason = _wrong_weights(entry, classifier)
    if reason is None:
        differences = _differences(classifier, sample, entry.info.protocol, workplace)
        reason = _disagreement(differences, tolerance)
    verification = Verification(
        entry=entry.id,
        time=now(),
        images=len(differences),
        agreeing=int((differences <= tolerance).sum()),
        largest_difference=float(differences.max(initial=0)),
        tolerance=tolerance,
        weights_sha256=classifier.weights_sha256,
        seed=chosen,
        verified=reason is None,
        reason=reason,
    )
    store.add_verification(verification)
    return verification


def _wrong_weights(entry: Entry, classifier: Classifier) -> str | None:
    if classifier.weights_sha256 == entry.info.weights_sha256:
        return None
    return (
        f"{classifier.spec} loads weights of the hash {classifier.weights_sha256[:12]}, the entry gives "
        f"{entry.info.weights_sha256[:12]}."
    )


def _disagreement(differences: Floats, tolerance: float) -> str | None:
    wrong = int((differences > tolerance).sum())
    if not wrong:
        return None
    return (
        f"{wrong} of {len(differences)} images have another probability of their class, or another most probable "
        f"class, than was submitted, by up to {differences.max():.3g} where {tolerance:g} is allowed."
    )


def _sample(submitted: pd.DataFrame, images: int, seed: int) -> pd.DataFrame:
    """Draw rows without replacement, as many spurious ones as there are others where there are so many."""
    ordered = submitted.sort_values(_KEY, ignore_index=True)
    rng = np.random.default_rng(seed)
    rows = []
    for side, number in (("spurious", images - images // 2), ("validation", images // 2)):
        of_side = np.flatnonzero(ordered["side"] == side)
        rows.append(rng.choice(of_side, min(number, len(of_side)), replace=False))
    return ordered.iloc[np.sort(np.concatenate(rows))].reset_index(drop=True)


def _differences(classifier: Classifier, sample: pd.DataFrame, protocol: Protocol, workplace: Workplace) -> Floats:
    """Return how far each row is from what the model says now: in its class's probability, or in its prediction.

    Of the class that was submitted as the most probable one, that is how much less probable it is than the model's own
    most probable one: nothing where they are the same, and little where two classes are all but tied.
    """
    found, place = _probabilities(classifier, sample, protocol, workplace), classifier.labels.index
    known = set(classifier.labels.class_ids)
    values = []
    columns = (sample[name] for name in ("class_id", "probability", "top5_id"))
    for row, class_id, submitted, best in zip(found, *columns, strict=True):
        behind = row.max() - row[place(best[0])] if best[0] in known else 1.0
        values.append(max(abs(row[place(class_id)] - submitted), behind))
    return np.array(values, np.float64)


def _probabilities(
    classifier: Classifier, sample: pd.DataFrame, protocol: Protocol, workplace: Workplace
) -> list[Floats]:
    """Return the probabilities of all classes for each row."""
    backend = classifier.backend(workplace.backend, device=workplace.device, workers=workplace.workers)
    runner = ImageRunner(backend, classifier.preprocess, workers=workplace.workers)
    found: dict[tuple[str, str], Floats] = {}
    sides: tuple[tuple[Side, Iterator[LabelledImage]], ...] = (
        ("spurious", _spurious(workplace)),
        ("validation", _validation(workplace, classifier, set(sample["class_id"]))),
    )
    for side, images in sides:
        wanted = set(sample.loc[sample["side"] == side, "sha256"])
        data = {digest: content for _, content, digest in read_ahead(images) if digest in wanted}
        missing = sorted(wanted - set(data))
        if missing:
            raise DataError(
                f"{len(missing)} of the {len(wanted)} {side} images that were drawn are not among those given, such as "
                f"that of SHA-256 {missing[0][:12]}: expected the images of the entry's version."
            )
        transform = classifier.preprocess.for_protocol(protocol, side)
        for output in runner.run((partial(bytes, content) for content in data.values()), transform):
            if output.rejects:
                raise DataError(f"an image that was drawn cannot be decoded: {output.rejects[0][1]}.")
            for digest, row in zip(output.sha256, softmax(output.logits), strict=True):
                found[side, digest.hex()] = row
    return [found[side, digest] for side, digest in zip(sample["side"], sample["sha256"], strict=True)]


def _spurious(workplace: Workplace) -> Iterator[LabelledImage]:
    for image in SpuriousDataset(workplace.dataset):
        yield LabelledImage("spurious", image.class_id, image.concept_id, "", partial(bytes, image.data))


def _validation(workplace: Workplace, classifier: Classifier, classes: set[str]) -> Iterator[LabelledImage]:
    for image in validation_images(workplace.val, classes, classifier.labels, SeenImages(max_label_problems=1)):
        yield LabelledImage("validation", image.class_id, None, image.name, image.read)
