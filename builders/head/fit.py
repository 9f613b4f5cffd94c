"""A linear head on the frozen features of any encoder: concepts in any labelled folder (SR section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

from spurious_imagenet.errors import DataError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS, labels_of_store
from spurious_imagenet.features.labelled import Indices, LabelledFeatures
from spurious_imagenet.features.repeats import each_once, image_codes
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.seeding import seeded
from spurious_imagenet.records import Record

__all__ = ["HeadConfig", "HeadFit", "fit_head"]

Progress = Callable[[str, int, int], None]
Floats = NDArray[np.float64]

#: Weights of the L2 penalty that are tried, from strong to weak; on standardised features one range fits any encoder.
PENALTIES = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

_BLOCK_BYTES = 64 << 20  # float16 features that are in memory at once
_KEPT_BYTES = 512 << 20  # standardised float32 features that are kept between two passes where they are no more
_PAPER_BATCH = 256  # the paper does not say
_MAX_STEPS = 100


class HeadConfig(Record):
    """How to fit a head."""

    recipe: Literal["logistic", "paper"] = "logistic"
    """``logistic``: L2-penalised logistic regression on standardised features, to convergence, with the penalty chosen
    on held-out images. ``paper``: Adam, learning rate 0.1, weight decay 0.003, 20 epochs (SR appendix B)."""
    holdout: float = Field(default=0.1, gt=0, lt=1)
    """Share of each class's images on which the penalty is chosen; the final head is fitted to all images."""
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True, eq=False)
class HeadFit:
    """What came of a fit.

    Attributes:
        head: Reads raw features; the standardisation is folded into it.
        class_ids: One id per row of the head, sorted.
        images: Labelled images it was fitted to.
        unlabelled: Images of the store that have no class id.
        repeated: Images left out because one of the same bytes and class is there.
        penalty: The chosen L2 penalty, in units of the mean cross-entropy; None for the paper's recipe.
        holdout_accuracy: Share of the held-out images classified rightly by the head that was fitted without them, with
            the chosen penalty; in [0, 1], higher is better. None for the paper's recipe, which holds out none.
    """

    head: LinearHead
    class_ids: tuple[str, ...]
    images: int
    unlabelled: int
    repeated: int = 0
    penalty: float | None = None
    holdout_accuracy: float | None = None


class _Labelled(LabelledFeatures):
    """The images of a store with the class ids that their rows carry, whatever the encoder's own classes are."""

    def __init__(self, store: FeatureStore) -> None:
        super().__init__(store)
        self.codes = image_codes(self.parts)
        self.ids: Indices = each_once(np.flatnonzero(self.label >= 0), self.codes, self.label)
        if len(self.class_ids) < 2:
            raise DataError(
                f"{store.path} has labelled images of {len(self.class_ids)} classes: a head needs at least 2 (shards "
                "packed from a folder with one subfolder per class carry them)."
            )

    def fitted(self, head: LinearHead, penalty: float | None = None, accuracy: float | None = None) -> HeadFit:
        """Say what a head was fitted to."""
        repeated = len(self) - self.unlabelled - len(self.ids)
        return HeadFit(head, self.class_ids, len(self.ids), self.unlabelled, repeated, penalty, accuracy)

    def blocks(self, ids: Indices) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (n, D) float32 features and (n,) labels of images, in the order of the ids given."""
        rows = max(1, _BLOCK_BYTES // (2 * self.dim))
        for chunk in np.split(ids, range(rows, len(ids), rows)):
            yield torch.from_numpy(self.features_in_order(chunk)).float(), torch.from_numpy(self.label[chunk])


def fit_head(
    store: FeatureStore,
    config: HeadConfig,
    *,
    device: str = "cpu",
    max_label_problems: float = MAX_LABEL_PROBLEMS,
    progress: Progress | None = None,
) -> HeadFit:
    """Fit a linear classifier of the store's own classes to its features.

    The classes are the class ids of the store's rows; images without one are not used, and images of the same bytes and
    class count once. Features are streamed, 64 MiB of
    them at a time; only stores of up to 512 MiB in float32 are kept in memory by the ``logistic`` recipe, which needs
    some 25 copies of the head in float64 besides, and passes over the features some hundred times.

    Args:
        store: Features of the labelled images, by any encoder.
        config: How.
        device: Where to compute.
        max_label_problems: Largest share of the images whose label may be of no use, in [0, 1].
        progress: Called with (step, done, at most).

    Raises:
        DataError: Fewer than 2 classes, too few images to hold some out, or a NaN or infinite feature; or more labels
            than allowed cannot be used.
    """
    labels_of_store([store], own_ids=True).check(max_label_problems)
    images = _Labelled(store)
    tell = progress or (lambda *_: None)
    if config.recipe == "paper":
        head = _paper_recipe(images, config.seed, torch.device(device), tell)
        return images.fitted(head)
    return _logistic(images, config, torch.device(device), tell)


def _paper_recipe(images: _Labelled, seed: int, device: torch.device, tell: Progress) -> LinearHead:
    """Minibatch Adam as the paper's appendix B has it, over a new random order of all images each epoch."""
    rng = np.random.default_rng(seed)
    with seeded(seed):
        layer = torch.nn.Linear(images.dim, len(images.class_ids)).to(device)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, weight_decay=0.003)
    for epoch in range(20):
        for block, labels in images.blocks(rng.permutation(images.ids)):
            for first in range(0, len(labels), _PAPER_BATCH):
                x, y = block[first : first + _PAPER_BATCH], labels[first : first + _PAPER_BATCH]
                optimizer.zero_grad()
                loss = cross_entropy(layer(x.to(device)), y.to(device))
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        tell("epochs", epoch + 1, 20)
    return LinearHead(layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy())


def _logistic(images: _Labelled, config: HeadConfig, device: torch.device, tell: Progress) -> HeadFit:
    train, held_out = _split(images, config)
    model = _Logistic(images, train, device)
    weights = np.zeros((len(images.class_ids), images.dim + 1))
    best = (np.inf, 0.0, PENALTIES[0], weights)
    for tried, penalty in enumerate(PENALTIES, start=1):
        weights = model.fit(weights, penalty)
        loss, accuracy = model.evaluate(weights, held_out)
        tell("penalties", tried, len(PENALTIES) + 1)
        if loss > best[0]:  # the loss has one minimum along the path, but rounding may hide it
            break
        best = (loss, accuracy, penalty, weights)
    _, accuracy, penalty, weights = best
    model = _Logistic(images, images.ids, device)
    weights = model.fit(weights, penalty)
    tell("penalties", len(PENALTIES) + 1, len(PENALTIES) + 1)
    return images.fitted(model.head(weights), penalty, accuracy)


def _split(images: _Labelled, config: HeadConfig) -> tuple[Indices, Indices]:
    """Hold out a share of every class's images, none of a class that has one."""
    rng = np.random.default_rng(config.seed)
    shuffled = rng.permutation(images.ids)
    shuffled = shuffled[np.argsort(images.label[shuffled], kind="stable")]
    counts = np.bincount(images.label[images.ids])
    wanted = np.where(counts > 1, np.maximum(1, np.round(config.holdout * counts)), 0).astype(np.int64)
    place = np.arange(len(shuffled)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = place < np.repeat(np.minimum(wanted, counts - 1), counts)
    if not held.any():
        raise DataError("every class has a single image, so none can be held out to choose the penalty: expected more.")
    # An image that several classes have is on one side only.
    held &= ~np.isin(images.codes[shuffled], images.codes[shuffled[~held]])
    if not held.any():
        raise DataError("every image that could be held out is there as one of another class too: expected one label.")
    return np.sort(shuffled[~held]), np.sort(shuffled[held])


class _Logistic:
    """Multinomial logistic regression on standardised features, by L-BFGS over streamed blocks.

    Args:
        images: Where the features are.
        ids: The images to fit to.
        device: Where to compute.
    """

    def __init__(self, images: _Labelled, ids: Indices, device: torch.device) -> None:
        self.images, self.ids, self.device = images, ids, device
        self.mean, self.scale = self._standardisation()
        self._kept: list[tuple[Tensor, Tensor]] = []

    def _standardisation(self) -> tuple[Tensor, Tensor]:
        """Return (D,) float64 means and reciprocal standard deviations; a feature that never changes gets 0."""
        total, squares = torch.zeros(2, self.images.dim, dtype=torch.float64)
        for block, _ in self.images.blocks(self.ids):
            total += block.sum(0, dtype=torch.float64)
            squares += (block.double() ** 2).sum(0)
        mean = total / len(self.ids)
        variance = (squares / len(self.ids) - mean**2).clamp_min(0)
        constant = variance <= 1e-10 * (squares / len(self.ids))
        return mean, torch.where(constant, 0.0, 1 / variance.sqrt())

    def _blocks(self, ids: Indices) -> Iterator[tuple[Tensor, Tensor]]:
        mean, scale = self.mean.float().to(self.device), self.scale.float().to(self.device)
        for block, labels in self.images.blocks(ids):
            yield (block.to(self.device) - mean).mul_(scale), labels.to(self.device)

    def _training_blocks(self) -> Iterable[tuple[Tensor, Tensor]]:
        if len(self.ids) * self.images.dim * 4 > _KEPT_BYTES:
            return self._blocks(self.ids)
        self._kept = self._kept or list(self._blocks(self.ids))
        return self._kept

    def fit(self, start: Floats, penalty: float) -> Floats:
        """Return the (K, D + 1) weights and biases that minimise mean cross-entropy + penalty / 2 * |weights|²."""
        shape = start.shape

        def objective(flat: Floats) -> tuple[float, Floats]:
            theta = flat.reshape(shape)
            loss, gradient = self._loss_and_gradient(theta)
            gradient[:, :-1] += penalty * theta[:, :-1]
            return loss + penalty / 2 * float((theta[:, :-1] ** 2).sum()), gradient.reshape(-1)

        options = {"maxiter": _MAX_STEPS, "maxcor": 10, "ftol": 1e-6, "gtol": 1e-6}
        found = minimize(objective, start.reshape(-1), jac=True, method="L-BFGS-B", options=options)
        return np.asarray(found.x.reshape(shape))

    def _loss_and_gradient(self, theta: Floats) -> tuple[float, Floats]:
        both = torch.from_numpy(theta).float().to(self.device)
        loss, gradient = 0.0, np.zeros_like(theta)
        for x, y in self._training_blocks():
            logits = torch.addmm(both[:, -1], x, both[:, :-1].T)
            loss += float(cross_entropy(logits, y, reduction="sum"))
            error = logits.softmax(1)
            error[torch.arange(len(y), device=self.device), y] -= 1
            gradient[:, :-1] += (error.T @ x).double().cpu().numpy()
            gradient[:, -1] += error.sum(0).double().cpu().numpy()
        return loss / len(self.ids), gradient / len(self.ids)

    def evaluate(self, theta: Floats, ids: Indices) -> tuple[float, float]:
        """Return mean cross-entropy (lower is better) and accuracy over images."""
        both = torch.from_numpy(theta).float().to(self.device)
        loss, right = 0.0, 0
        for x, y in self._blocks(ids):
            logits = torch.addmm(both[:, -1], x, both[:, :-1].T)
            loss += float(cross_entropy(logits, y, reduction="sum"))
            right += int((logits.argmax(1) == y).sum())
        return loss / len(ids), right / len(ids)

    def head(self, theta: Floats) -> LinearHead:
        """Return the head that reads raw features."""
        weight = theta[:, :-1] * self.scale.numpy()
        bias = theta[:, -1] - weight @ self.mean.numpy()
        return LinearHead(weight.astype(np.float32), bias.astype(np.float32))
