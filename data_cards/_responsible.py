"""How data were collected, who judged them, what they cannot tell: one wording for cards and Croissant's RAI fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spurious_imagenet.data_cards._sources import OPEN_IMAGES, Sources
from spurious_imagenet.data_cards._steps import in_words
from spurious_imagenet.datasets.manifest import DatasetManifest

_MAINTENANCE = (
    "Items found wrong are retracted with the next version, and listed with the reason and the first version without "
    "them. Versions are tags, and old ones stay available."
)
_UNREVIEWED = "No person has judged them: some are the object of the class itself, and no figure on them is quotable."


@dataclass(frozen=True)
class Responsible:
    """What a reader must know before using the data; one sentence or more in each text.

    Attributes:
        collection: Where the data come from and how they were chosen, with the numbers of each step.
        collection_types: Croissant's terms for that.
        protocol: How people annotated; empty if nobody did.
        analysis: How far they agreed.
        per_item: Annotations an item.
        annotators: Who they are.
        tools: Models that annotated.
        biases: In whose favour the data speak.
        limitations: What they cannot tell.
        uses: What they are for.
        personal: What they say of people.
        maintenance: What happens when something is wrong.
    """

    collection: str
    collection_types: tuple[str, ...]
    protocol: tuple[str, ...]
    analysis: tuple[str, ...]
    per_item: str
    annotators: tuple[str, ...]
    tools: tuple[str, ...]
    biases: tuple[str, ...]
    limitations: tuple[str, ...]
    uses: tuple[str, ...]
    personal: tuple[str, ...]
    maintenance: str


def responsible(
    manifest: DatasetManifest,
    *,
    review: Mapping[str, Any] | None,
    sources: Sources | None,
) -> Responsible:
    """Word what is known of a dataset of any kind.

    Args:
        manifest: Its numbers and models.
        review: How people judged, see :func:`~spurious_imagenet.data_cards.render_spurious_card`; None: nobody has.
        sources: What its images say of whose they are; None where it has none.
    """
    texts = _TEXTS[manifest.kind](manifest, review, sources)
    return Responsible(
        collection=" ".join([texts["collection"], _numbers(manifest)]).strip(),
        collection_types=texts["types"],
        protocol=texts["protocol"],
        analysis=_analysis(manifest, review),
        per_item=str(review["per_item"]) if review else "",
        annotators=_annotators(manifest, review),
        tools=tuple(f"{m.model} ({m.role})" for m in manifest.miners),
        biases=texts["biases"],
        limitations=texts["limitations"],
        uses=texts["uses"],
        personal=_personal(sources),
        maintenance=_MAINTENANCE,
    )


def _numbers(manifest: DatasetManifest) -> str:
    found = "; ".join(f"{words}: {n}" for words, n in in_words(manifest.counts))
    return f"In numbers: {found}." if found else ""


def _analysis(manifest: DatasetManifest, review: Mapping[str, Any] | None) -> tuple[str, ...]:
    facts = tuple(f"{what}: {text}." for what, text in other_facts(manifest, review).items())
    if review is None:
        return facts
    found = (
        f"{review['judged']} items were judged and {review['accepted']} accepted; the labelers differed on "
        f"{review['disagreed']}, and a further person decided {review['adjudicated']} of those. "
        f"Agreement: {review['agreement']}."
    )
    return (found, *facts)


def other_facts(manifest: DatasetManifest, review: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the manifest's facts under readable names, less what the review says already."""
    said = review["agreement"] if review else None
    return {what.replace("_", " ").capitalize(): text for what, text in manifest.facts.items() if text != said}


def _annotators(manifest: DatasetManifest, review: Mapping[str, Any] | None) -> tuple[str, ...]:
    if review is not None:
        return (f"{review['labelers']} labelers under pseudonyms; who they are beyond that was not recorded.",)
    if manifest.kind == "spurious-images":
        return ("Nobody has judged the images.",)
    return ("Labelers under pseudonyms; who they are beyond that was not recorded.",)


def _personal(sources: Sources | None) -> tuple[str, ...]:
    if sources is None:
        return ("No pictures and nothing about people; labelers stand under pseudonyms.",)
    return (
        "People, homes and number plates may be recognisable in photographs. Do not use them to identify anyone.",
        "Names of photographers stand in the columns on whose pictures they are, as their licences ask.",
        "Labelers stand under pseudonyms.",
    )


def _spurious(manifest: DatasetManifest, review: Mapping[str, Any] | None, sources: Sources | None) -> dict[str, Any]:
    models = len(manifest.miners)
    protocol = (
        f"Each image was shown to {review['per_item']} labelers, who did not see each other's answers: does it show "
        "the cue, and does it show the object of the class? It was accepted if they said cue yes and object no, or if "
        "a further person decided so.",
    ) if review else ()  # fmt: skip
    biases = [
        f"The images were chosen by {models} models: they mislead these models by construction, and models that are "
        "related to them (same weights, architecture or training) more than others. Comparisons should mark such "
        "models.",
        "Cues are components of one model's features. A cue that this model does not use is not here, however many "
        "others use it.",
    ]
    found = sources.collections.get(OPEN_IMAGES, 0) if sources else 0
    if found:
        biases.append(
            f"{found} of the images come from OpenImages: photographs from Flickr, most of them taken in North America "
            "and Europe, by people who share pictures. Objects, homes and dress of other regions are rare, and so are "
            "cues that only occur there."
        )
    limitations = [
        f"Only {manifest.counts.get('classes', 0)} classes have images. A model may rely on cues of other classes; the "
        "dataset does not say.",
        "Numbers of images differ between classes: average over classes, not over images.",
        _orientation(manifest.counts.get("turned")),
    ]
    if review:
        limitations.insert(
            0,
            f"{review['per_item']} labelers an image are few. Where the object is tiny or half hidden they may all "
            "be wrong.",
        )
    else:
        limitations.insert(0, _UNREVIEWED)
    return {
        "collection": (
            "Images of a pool that score high on a neural PCA component of one class, that several models take for the "
            "class, less near-duplicates by perceptual hash."
        ),
        "types": ("Secondary Data analysis", "Manual Human Curator") if review else ("Secondary Data analysis",),
        "protocol": protocol,
        "biases": tuple(biases),
        "limitations": tuple(limitations),
        "uses": (
            "Measuring how much an image classifier relies on spurious features.",
            "Not for training: who trains on these images can no longer be measured with them.",
        ),
    }


def _orientation(turned: int | None) -> str:
    with_tag = {None: "An image may have", 0: "No image has", 1: "1 image has"}.get(turned, f"{turned} images have")
    return (
        f"Models read the pixels as they are stored. {with_tag} an EXIF orientation tag that asks for a turn or a "
        "mirror image: browsers, FiftyOne and the Image feature of datasets obey it, so that they show and return such "
        "an image otherwise than models saw it; the files' bytes are the original ones."
    )


def _rankings(manifest: DatasetManifest, review: Mapping[str, Any] | None, sources: Sources | None) -> dict[str, Any]:
    return {
        "collection": "Labelled images, sorted within their class by the mean standardised score of its concepts.",
        "types": ("Secondary Data analysis",),
        "protocol": (),
        "biases": (
            "The scores are one model's idea of the cues; a cue that it does not see does not count, and a large "
            "object may score like one.",
            "Whatever bias the labelled images have, of places, people or photographers, the ranks have too.",
        ),
        "limitations": (
            "Spuriosity compares images of one class and split only: equal values in two classes mean nothing.",
            "Low images may be harder for other reasons than a missing cue: compare with the control classes.",
            "Ranks are of the pixels as they are stored: an EXIF orientation tag, which the Image feature of datasets "
            "obeys, was not applied.",
        ),
        "uses": (
            "Measuring how much worse a classifier does where the cues of a class are absent (spurious gaps).",
            "Tuning a classifier's head on images of low spuriosity.",
        ),
    }


def _annotations(
    manifest: DatasetManifest, review: Mapping[str, Any] | None, sources: Sources | None
) -> dict[str, Any]:
    return {
        "collection": "Verdicts of people on the concepts that a model uses for a class, seen on boards of images.",
        "types": ("Manual Human Curator",),
        "protocol": (
            "A concept is spurious if what its images share is not part of the object of the class, core if it is, and "
            "unclear where people could not say.",
        ),
        "biases": (
            "Concepts are those of the models that were judged; what other models use is not here.",
            "People name what they see on a few images of highest score; a concept may respond to more than that.",
        ),
        "limitations": (
            "Few people judged each concept. Where they differed, the verdict is what most of them said, or unclear.",
            "A verdict holds for the weights that it names. A model trained again has other concepts.",
        ),
        "uses": (
            "Choosing which concepts count as spurious when images are ranked or mined, or a model is mended.",
            "Comparing what models rely on.",
        ),
    }


_TEXTS = {"spurious-images": _spurious, "rankings": _rankings, "concept-annotations": _annotations}
