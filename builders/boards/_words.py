"""What boards and pages call things."""

from __future__ import annotations

from typing import Any, TypeGuard

import pandas as pd

from spurious_imagenet.builders.boards._evidence import Board


def score_word(concept: dict[str, Any]) -> str:
    """Name a concept's score: α for NPCA components (SFE eq. 5), the activation for neural features."""
    return {"npca": "α", "npca_residual": "α", "neuron": "activation"}.get(str(concept["kind"]), "score")


def component_words(concept: dict[str, Any]) -> str:
    """Name the component: ids count from 0 and the papers from 1, so both are said."""
    kind, component = str(concept["kind"]), int(concept["component"])
    if kind == "npca":
        return f"component {component} (paper counts {component + 1})"
    if kind == "neuron":
        rank = concept.get("importance_rank")
        return f"neural feature {component}" + (f", importance rank {rank:.0f}" if _is_number(rank) else "")
    return f"{kind} {component}" if component >= 0 else kind


def verdict_words(concept: dict[str, Any]) -> str:
    """Return the concept's verdict, empty where the bank has none."""
    verdict = concept.get("verdict")
    return verdict if isinstance(verdict, str) else ""


def describe(board: Board) -> str:
    """Say in one line what else is known of the concept."""
    concept = board.concept
    said = [str(concept["class_id"]), f"{board.images} training images"]
    if _is_number(concept.get("explained_share")):
        said.append(f"{100 * float(concept['explained_share']):.1f} % of the variance of the class's contributions")
    if _is_number(concept.get("importance")):
        said.append(f"adds {float(concept['importance']):.2f} to the class's mean logit")
    return "  ·  ".join(said)


def short_number(value: float) -> str:
    """Write a number in about four characters, for tables."""
    size = abs(value)
    return f"{value:.2f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:.0e}"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not pd.isna(value)
