"""Ridge regression with a constant that is not penalised, as it stands in a textbook."""

from __future__ import annotations

import numpy as np


def ridge(source: np.ndarray, target: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (D_target, D_source) and bias (D_target,) that minimise squares plus ``penalty`` times weight²."""
    x, y = source - source.mean(0), target - target.mean(0)
    weight = (np.linalg.inv(x.T @ x + penalty * np.eye(x.shape[1])) @ x.T @ y).T
    return weight, target.mean(0) - weight @ source.mean(0)
