from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.apgd import apgd, nearest
from torch import Tensor

from spurious_imagenet.builders.visualise.apgd import checkpoints, maximise, project
from spurious_imagenet.errors import ConfigError, DataError, ModelError

#: Around a maximum the objective falls with the square of the distance, so values that float32 cannot tell apart belong
#: to images that differ by its square root, 3e-4 or a few times that, and which of them is met first is up to rounding.
#: The images of different starts differ by more than ten times this.
UNDECIDED = 1e-2


def starts(count: int, side: int = 4, seed: int = 0) -> Tensor:
    """Images of which some pixels lie on the border of the box."""
    images = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return (1.5 * images - 0.25).clamp(0, 1)


class Hills:
    """A rugged objective: waves along random directions, the same for every image of the same pixels."""

    def __init__(self, side: int = 4, waves: int = 6, seed: int = 0, steepness: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        self.directions = steepness * rng.standard_normal((waves, 3 * side * side))
        self.evaluations = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.evaluations += 1
        along = images.flatten(1).double() @ torch.from_numpy(self.directions).T
        return torch.sin(along).sum(1) + 0.3 * along.sum(1)

    def of_vector(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        along = self.directions @ vector
        return float(np.sin(along).sum() + 0.3 * along.sum()), (np.cos(along) + 0.3) @ self.directions


def lengths(images: Tensor, start: Tensor) -> np.ndarray:
    return np.linalg.norm((images.double() - start.double()).flatten(1).numpy(), axis=1)


def test_checkpoints_are_the_published_ones() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == [1]


@settings(max_examples=60, deadline=None)
@given(
    eps=st.floats(1e-3, 20),
    spread=st.floats(1e-3, 100),
    seed=st.integers(0, 10_000),
)
def test_projection_is_the_nearest_point_of_ball_and_box(eps: float, spread: float, seed: int) -> None:
    start = starts(3, seed=seed)
    points = start + spread * torch.randn(start.shape, generator=torch.Generator().manual_seed(seed))
    found = project(points.flatten(1), start.flatten(1), eps).view(start.shape)
    assert (lengths(found, start) <= eps).all()
    assert found.min() >= 0
    assert found.max() <= 1
    for i in range(3):
        point, centre = points[i].flatten().double().numpy(), start[i].flatten().double().numpy()
        distance = np.linalg.norm(found[i].flatten().double().numpy() - point)
        # Distances, because near a corner of the box a change of the radius by its rounding moves the point far.
        assert distance <= np.linalg.norm(nearest(point, centre, eps) - point) + 1e-4 * eps + 1e-5 * spread + 1e-6


@pytest.mark.parametrize("eps", [0.05, 0.7, 1.5])
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_search_is_that_of_the_naive_implementation(eps: float, steps: int) -> None:
    hills, start = Hills(steepness=0.4), starts(5)  # on steeper hills float32 and float64 part ways
    slope = 1.3 * np.linalg.norm(hills.directions, axis=1).sum()  # no gradient is longer
    found = maximise(hills, start, eps, steps)
    assert hills.evaluations == steps + 1
    for i in range(len(start)):
        image, value = apgd(hills.of_vector, start[i].flatten().double().numpy(), eps, steps)
        # The float32 search aims at a radius that is shorter by its rounding, about 1e-5: so much lower it may end.
        assert float(found.objective[i]) == pytest.approx(value, abs=slope * (1e-5 * eps + 1e-6))
        np.testing.assert_allclose(found.images[i].flatten(), image, atol=UNDECIDED)


@settings(max_examples=40, deadline=None)
@given(eps=st.floats(0, 10), steps=st.integers(1, 30), seed=st.integers(0, 1000))
def test_results_stay_in_the_set_and_never_below_the_start(eps: float, steps: int, seed: int) -> None:
    hills, start = Hills(seed=seed), starts(4, seed=seed)
    found = maximise(hills, start, eps, steps)
    assert (found.objective >= found.start_objective).all()
    assert (lengths(found.images, start) <= eps).all()
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    torch.testing.assert_close(hills(found.images).float(), found.objective, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(hills(start).float(), found.start_objective)


def test_order_and_size_of_the_batch_do_not_matter() -> None:
    hills, start = Hills(steepness=0.4), starts(9)
    whole = maximise(hills, start, 1.0, 30)
    between = torch.cdist(whole.images.flatten(1), whole.images.flatten(1), p=math.inf)
    assert between[~torch.eye(9, dtype=torch.bool)].min() > 10 * UNDECIDED
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    shuffled = maximise(hills, start[order], 1.0, 30)
    torch.testing.assert_close(shuffled.objective, whole.objective[order], atol=1e-4, rtol=0)
    torch.testing.assert_close(shuffled.images, whole.images[order], atol=UNDECIDED, rtol=0)
    for i in range(0, 9, 2):
        alone = maximise(hills, start[i : i + 2], 1.0, 30)
        torch.testing.assert_close(alone.objective, whole.objective[i : i + 2], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.images, whole.images[i : i + 2], atol=UNDECIDED, rtol=0)


def test_a_ball_of_radius_zero_holds_its_centre_alone() -> None:
    start = starts(3)
    found = maximise(Hills(), start, 0.0, 5)
    assert torch.equal(found.images, start)
    assert torch.equal(found.objective, found.start_objective)


def test_a_linear_objective_is_maximised_exactly() -> None:
    start = torch.full((2, 3, 4, 4), 0.5)
    direction = torch.randn(48, generator=torch.Generator().manual_seed(3))
    found = maximise(lambda images: images.flatten(1) @ direction, start, 1.2, 60)
    expected = nearest(0.5 + 1e6 * direction.double().numpy(), np.full(48, 0.5), 1.2)
    np.testing.assert_allclose(found.objective, [float(expected @ direction.double().numpy())] * 2, rtol=1e-4)


def test_a_flat_objective_leaves_the_start() -> None:
    start = starts(2)
    found = maximise(lambda images: (images * 0).sum(dim=(1, 2, 3)), start, 1.0, 10)
    assert torch.equal(found.images, start)


def test_it_works_inside_inference_mode() -> None:
    with torch.inference_mode():
        found = maximise(Hills(), starts(2), 1.0, 10)
    assert torch.equal(found.images, maximise(Hills(), starts(2), 1.0, 10).images)


def test_objectives_that_break_are_refused() -> None:
    with pytest.raises(ModelError, match="image 1 became NaN"):
        maximise(lambda x: x.sum(dim=(1, 2, 3)) * torch.tensor([1.0, math.nan]), starts(2), 1.0, 3)
    with pytest.raises(ModelError, match="one value per image"):
        maximise(lambda x: x.sum(), starts(2), 1.0, 3)


@pytest.mark.parametrize(("eps", "steps"), [(-1.0, 5), (math.nan, 5), (math.inf, 5), (1.0, 0)])
def test_settings_out_of_range_are_refused(eps: float, steps: int) -> None:
    with pytest.raises(ConfigError, match="expected a finite eps"):
        maximise(Hills(), starts(2), eps, steps)


@pytest.mark.parametrize("start", [starts(2) + 0.5, starts(2).double(), starts(2)[0], starts(2) * math.nan])
def test_starts_that_are_no_images_are_refused(start: Tensor) -> None:
    with pytest.raises(DataError, match=r"float32 in \[0, 1\]"):
        maximise(Hills(), start, 1.0, 3)
