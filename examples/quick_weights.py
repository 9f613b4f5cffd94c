"""Make the two networks of ``examples/quick``: those of ``make demo``, in half precision.

    python examples/quick_weights.py [WORLD] [OUT]      (default out/demo/world examples/quick)

Trains the scoring network and one that votes by the demo's recipes on the demo's world, and keeps their weights as
float16, 0.6 MB in all. Takes a few minutes. The same processor gives the same bytes, another nearly the same weights.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from spurious_imagenet.io import atomic_path
from spurious_imagenet.planted.training import RECIPES, train_models

NAMES = ("robust", "efficientnet")


def halve(source: Path, target: Path) -> None:
    """Write the floating-point tensors of a weights file as float16, with what the file says of itself."""
    with safe_open(source, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = file.metadata()
    halved = {name: t.half() if t.dtype == torch.float32 else t for name, t in tensors.items()}
    with atomic_path(target) as temporary:
        save_file(halved, temporary, metadata=about)


def main(world: Path, out: Path) -> None:
    """Train and write."""
    recipes = tuple(recipe for recipe in RECIPES if recipe.name in NAMES)
    with tempfile.TemporaryDirectory() as folder:
        for record in train_models(world, Path(folder) / "models", recipes, workers=2):
            name = f"{record.recipe.name}.safetensors"
            halve(Path(folder) / "models" / name, out / name)
            print(f"{out / name}: right on {record.val_accuracy:.1%} of validation images before rounding")


if __name__ == "__main__":
    main(Path([*sys.argv, "out/demo/world"][1]), Path((sys.argv[2:] or ["examples/quick"])[0]))
