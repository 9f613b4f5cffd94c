"""The top images of many concepts whose scores are matrix products, with each thread owning a share of the concepts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from spurious_imagenet.builders.mining.topn import StreamingTopN

__all__ = ["ProductTopN"]


class ProductTopN:
    """Scores blocks of images on M directions in float32 and keeps the best n of each.

    Product and ranking of a share of the concepts run on one thread each: a product on all threads followed by a
    ranking on one would leave the others idle for a third of the time. It is a context, which ends its threads.
    """

    def __init__(self, directions: torch.Tensor, n: int, block_rows: int) -> None:
        """Start with nothing seen.

        Args:
            directions: (M, D) float32.
            n: How many images to keep a concept.
            block_rows: Most images in one block.
        """
        self._threads = torch.get_num_threads()
        self._shares = torch.tensor_split(directions, min(self._threads, len(directions)))
        self._scores = [torch.empty(block_rows, len(share)) for share in self._shares]
        self._tops = [StreamingTopN(len(share), n) for share in self._shares]
        self._pool = ThreadPoolExecutor(len(self._shares), "concepts", initializer=lambda: torch.set_num_threads(1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._threads)

    def update(self, features: torch.Tensor, ids: NDArray[np.int64]) -> None:
        """Take a block of images.

        Args:
            features: (B, D) float32.
            ids: (B,) image ids.
        """

        def score(share: int) -> None:
            products = torch.mm(features, self._shares[share].T, out=self._scores[share][: len(features)])
            self._tops[share].update(products.numpy(), ids)

        list(self._pool.map(score, range(len(self._shares))))

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return (M, n) scores, best first, and image ids, as :meth:`StreamingTopN.result` does."""
        results = [top.result() for top in self._tops]
        return np.concatenate([scores for scores, _ in results]), np.concatenate([ids for _, ids in results])
