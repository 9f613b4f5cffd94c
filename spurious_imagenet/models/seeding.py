"""Seeding torch for one run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed while a block runs on the CPU; afterwards torch goes on from where it was.

    Accelerators keep their states: ``torch.manual_seed`` would seed every one of them for good.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
