"""Pure array functions that measure reliance on spurious features."""

from spurious_imagenet.benchmark.metrics.separation import spurious_ap, spurious_auc

__all__ = ["spurious_ap", "spurious_auc"]
