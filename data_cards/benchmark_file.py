"""``eval.yaml``: what makes a dataset repository a benchmark on the Hub."""

from __future__ import annotations

from typing import NamedTuple

import yaml

from spurious_imagenet.data_cards.card import one_line
from spurious_imagenet.datasets.manifest import DatasetManifest
from spurious_imagenet.errors import ConfigError

__all__ = ["EVAL_FILE", "FRAMEWORK", "TASKS", "Task", "render_eval_file"]

#: The file's name at the root of the dataset.
EVAL_FILE = "eval.yaml"
#: What the Hub is to call this project among evaluation frameworks.
FRAMEWORK = "spurious-imagenet"


class Task(NamedTuple):
    """One figure that models are compared by."""

    name: str
    meaning: str


#: Field of a record's means -> what it is; the first one ranks.
TASKS = {
    "spurious_auc": Task("Spurious AUC", "ROC AUC of class images against spurious images, mean over classes"),
    "spurious_ap": Task("Spurious AP", "average precision of class images against spurious images, mean over classes"),
}


def render_eval_file(manifest: DatasetManifest) -> str:
    """Render ``eval.yaml`` of a dataset of spurious images.

    Args:
        manifest: The dataset's.

    Raises:
        ConfigError: It is a dataset of another kind, on which models are not ranked.
    """
    file = next((f for f in manifest.files if f.config == "spurious"), None)
    if manifest.kind != "spurious-images" or file is None:
        raise ConfigError(f"{manifest.name!r} is a dataset of {manifest.kind}: expected spurious images.")
    counts = [f"{manifest.counts[key]} {key}" for key in ("images", "classes") if key in manifest.counts]
    about = "; ".join(f"{task}: {said.meaning}" for task, said in TASKS.items())
    content = {
        "name": one_line(manifest.name),
        "description": (
            f"How much an image classifier relies on spurious features, such as the usual surroundings of an object: "
            f"{' of '.join(counts) or 'images'} that show the cue but not the object. Higher is better, chance of AUC "
            f"is 0.5. {about}."
        ),
        "evaluation_framework": FRAMEWORK,
        "tasks": [{"id": task, "config": file.config, "split": file.split} for task in TASKS],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
