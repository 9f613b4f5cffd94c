"""Where FiftyOne finds the plugin's operators."""

from __future__ import annotations

from typing import Any

from spurious_imagenet.builders.review.fiftyone_session import operators

__all__ = ["register"]


def register(plugin: Any) -> None:
    """Register every operator; FiftyOne calls this."""
    for cls in operators():
        plugin.register(cls)
