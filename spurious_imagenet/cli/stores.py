"""Feature stores as the subcommands open them: with a word on what their user should know."""

from __future__ import annotations

from pathlib import Path

from spurious_imagenet.cli.options import console
from spurious_imagenet.features.repeats import repeats_of
from spurious_imagenet.features.store import FeatureStore

__all__ = ["open_store", "say_repeats"]


def open_store(path: str | Path) -> FeatureStore:
    """Open a feature store; say on standard error how many of its images repeat another one.

    Raises:
        StoreError: There is none at ``path``.
    """
    store = FeatureStore.open(path)
    say_repeats(store)
    return store


def say_repeats(store: FeatureStore) -> None:
    """Say on standard error how many images of a store repeat the bytes of another."""
    if (found := repeats_of(store)) is not None:
        console.print(f"{store.path}: {found}", highlight=False, markup=False, soft_wrap=True)
