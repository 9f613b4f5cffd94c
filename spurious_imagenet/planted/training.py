"""Four small networks of a planted world: an adversarially trained one that scores, and three that vote."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from spurious_imagenet.io import atomic_directory
from spurious_imagenet.models.seeding import seeded
from spurious_imagenet.models.weights_file import WeightsFileInfo, save_weights
from spurious_imagenet.planted._attack import l2_attack
from spurious_imagenet.planted._data import Split, load_split, planted_label_space
from spurious_imagenet.processes import process_pool
from spurious_imagenet.records import Record

__all__ = [
    "MEAN",
    "RECIPES",
    "STD",
    "Recipe",
    "TrainingRecord",
    "augment",
    "reproducible",
    "train_model",
    "train_models",
]

#: Normalisation of what the networks take.
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_MAX_SHIFT = 4  # pixels; no cue or object leaves the image


class Recipe(Record):
    """How one network is trained."""

    name: str
    """Name of its weights file."""
    arch: str
    """A timm architecture with a linear head."""
    arch_kwargs: dict[str, Any] = {}
    """Further arguments of ``timm.create_model``."""
    epochs: PositiveInt
    learning_rate: PositiveFloat
    """Peak of a one-cycle schedule of AdamW."""
    epsilon: float = Field(default=0.0, ge=0)
    """Radius of the L2 ball of the adversarial training, in pixel values 0..1; 0 trains on clean images."""
    batch_size: PositiveInt = 64
    weight_decay: float = Field(default=0.05, ge=0)
    seed: int = Field(default=0, ge=0)


#: The scoring model first, then the models that vote with it. The scorer's last map has 4 x 4 places, not 2 x 2: heat
#: then tells a cue from the object beside it.
RECIPES = (
    Recipe(
        name="robust",
        arch="test_byobnet",
        arch_kwargs={"output_stride": 16},
        epochs=6,
        learning_rate=5e-3,
        epsilon=0.5,
    ),
    Recipe(name="resnet", arch="test_resnet", epochs=4, learning_rate=4e-3),
    Recipe(name="efficientnet", arch="test_efficientnet", epochs=5, learning_rate=6e-3),
    Recipe(name="efficientnet_gn", arch="test_efficientnet_gn", epochs=5, learning_rate=4e-3),
)


class TrainingRecord(Record):
    """What came of a training."""

    recipe: Recipe
    parameters: int
    train_images: int
    val_images: int
    val_accuracy: float
    """Share of the clean validation images classified rightly, in [0, 1]; higher is better."""
    robust_accuracy: float | None
    """The same under a 10-step L2 attack of ``recipe.epsilon``; None for a network trained on clean images."""
    seconds: float
    """Wall time of the training alone."""


class _Normalised(nn.Module):
    """A network that takes pixel values 0..1, so that attacks know their bounds."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.mean = torch.tensor(MEAN).view(1, 3, 1, 1)
        self.std = torch.tensor(STD).view(1, 3, 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network((pixels - self.mean) / self.std)
        return logits


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed torch and hold it to one thread and deterministic kernels: sums then run in one order on any machine."""
    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    with seeded(seed):
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(before, warn_only=only_warns)


def augment(pixels: Tensor) -> Tensor:
    """Mirror half of the images and shift the batch by some pixels; neither changes what an image shows."""
    mirrored = torch.rand(len(pixels)) < 0.5
    pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(3), pixels)
    size, (top, left) = pixels.shape[-1], torch.randint(0, 2 * _MAX_SHIFT + 1, (2,)).tolist()
    bordered = pad(pixels, (_MAX_SHIFT,) * 4, mode="replicate")
    return bordered[..., top : top + size, left : left + size].contiguous(memory_format=torch.channels_last)


def _fit(network: nn.Module, train: Split, recipe: Recipe) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = max(len(train) // recipe.batch_size, 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps, pct_start=0.2
    )
    network.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(train))
        for step in range(steps):
            pixels, labels = train.batch(order[step * recipe.batch_size : (step + 1) * recipe.batch_size])
            pixels = augment(pixels)
            if recipe.epsilon > 0:
                pixels = l2_attack(network, pixels, labels, recipe.epsilon, steps=1)
            loss = cross_entropy(network(pixels), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.eval()


def _accuracy(network: nn.Module, split: Split, epsilon: float) -> float:
    right = 0
    for rows in torch.split(torch.arange(len(split)), 128):
        pixels, labels = split.batch(rows)
        if epsilon > 0:
            pixels = l2_attack(network, pixels, labels, epsilon, steps=10)
        with torch.inference_mode():
            right += int((network(pixels).argmax(1) == labels).sum())
    return right / len(split)


def train_model(
    train: Split, val: Split, recipe: Recipe, classes: int | None = None
) -> tuple[nn.Module, TrainingRecord]:
    """Train one network, the same to the bit every time on one kind of processor.

    Adversarial training takes one gradient step of length ε from the image (fast adversarial training).

    Args:
        train: Images to learn from.
        val: Images to measure accuracy on.
        recipe: What to train, and how.
        classes: Outputs; as many as a planted world has classes where left out.

    Returns:
        The network in evaluation mode, taking normalised pixels, and the record.
    """
    with reproducible(recipe.seed):
        outputs = classes or len(planted_label_space())
        network = timm.create_model(recipe.arch, pretrained=False, num_classes=outputs, **recipe.arch_kwargs)
        network = network.to(memory_format=torch.channels_last)
        on_pixels = _Normalised(network)
        start = time.perf_counter()
        _fit(on_pixels, train, recipe)
        seconds = time.perf_counter() - start
        record = TrainingRecord(
            recipe=recipe,
            parameters=sum(p.numel() for p in network.parameters()),
            train_images=len(train),
            val_images=len(val),
            val_accuracy=_accuracy(on_pixels, val, 0.0),
            robust_accuracy=_accuracy(on_pixels, val, recipe.epsilon) if recipe.epsilon > 0 else None,
            seconds=round(seconds, 1),
        )
    return network.eval(), record


def _train_and_save(world: Path, out: Path, recipe: Recipe) -> TrainingRecord:
    train, val = load_split(world, "train"), load_split(world, "val")
    network, record = train_model(train, val, recipe)
    space = planted_label_space()
    info = WeightsFileInfo(
        arch=recipe.arch,
        arch_kwargs=dict(recipe.arch_kwargs),
        label_space=space.name,
        class_ids=space.class_ids,
        class_names=space.class_names,
        image_size=int(train.images.shape[-1]),
        mean=MEAN,
        std=STD,
        crop_pct=1.0,
        interpolation="bicubic",
    )
    save_weights(out / f"{recipe.name}.safetensors", network, info)
    text = record.to_json()
    (out / f"{recipe.name}.json").write_text(text, encoding="utf-8")
    return record


def train_models(
    world: str | Path,
    out: str | Path,
    recipes: tuple[Recipe, ...] = RECIPES,
    *,
    workers: int = 1,
    on_trained: Callable[[TrainingRecord], None] | None = None,
) -> list[TrainingRecord]:
    """Train networks on a planted world and save them as ``NAME.safetensors`` with a record ``NAME.json`` each.

    Args:
        world: A folder written by ``write_world``.
        out: New folder, which appears whole or not at all.
        recipes: What to train.
        workers: Networks trained at once, each in a process of one thread.
        on_trained: Called with each record as it comes.

    Returns:
        The records, in the order of the recipes.

    Raises:
        DataError: ``world`` is not a planted world.
        StoreError: ``out`` exists and is not empty.
    """
    tell = on_trained or (lambda _: None)
    records: dict[str, TrainingRecord] = {}
    with atomic_directory(out) as root:
        if workers == 1:
            for recipe in recipes:
                records[recipe.name] = _train_and_save(Path(world), root, recipe)
                tell(records[recipe.name])
        else:
            with process_pool(workers) as pool:
                jobs = [pool.submit(_train_and_save, Path(world), root, recipe) for recipe in recipes]
                for job in as_completed(jobs):
                    records[job.result().recipe.name] = job.result()
                    tell(job.result())
    return [records[recipe.name] for recipe in recipes]
