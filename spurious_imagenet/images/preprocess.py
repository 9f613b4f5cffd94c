"""The evaluation transform: resize, crop; and the two protocols that fix its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Literal, NamedTuple
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, PositiveInt, ValidationError

from spurious_imagenet.errors import ConfigError, ModelError
from spurious_imagenet.records import Record

__all__ = ["CustomTransform", "ImageTransform", "Preprocess", "Protocol", "ResizeMode", "View"]

ResizeMode = Literal["shortest", "squash", "border", "longest"]

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}


class Protocol(str, Enum):
    """How images are prepared when a benchmark number is made."""

    PAPER = "paper"
    """As published with SFE: bicubic; validation images ``Resize(int(256/224*s))`` + ``CenterCrop(s)``, spurious
    images ``Resize(s)`` (their longer side, if any, cropped to s); the model's own crop and interpolation ignored."""
    STANDARD = "standard"
    """The model's own evaluation transform for all images."""


class ImageTransform(Interface):
    """What turns a decoded (H, W, 3) uint8 image into one input of a network."""

    def apply(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """Return (size, size, 3) uint8 pixels, or a normalised (3, size, size) float32 image."""
        ...


class CustomTransform:
    """A user's own transform: PIL image → normalised (3, H, W) tensor, as torchvision composes them.

    Args:
        transform: Called with an RGB ``PIL.Image``.

    Raises:
        ModelError: It does not return such a tensor.
    """

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform
        shape = self.apply(np.zeros((256, 256, 3), np.uint8)).shape
        if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
            raise ModelError(f"the transform returns an image of shape {shape}: expected (3, size, size).")
        self.size: int = shape[1]

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the normalised (3, size, size) float32 image."""
        import torch  # here, where a transform of torch's is at hand: protocols and records are read without it

        made = self.transform(Image.fromarray(image))
        if not isinstance(made, torch.Tensor):
            raise ModelError(f"the transform returns {type(made).__name__}: expected a torch.Tensor.")
        return made.numpy().astype(np.float32, copy=False)

    def for_protocol(self, protocol: Protocol, images: Literal["validation", "spurious"]) -> CustomTransform:
        """Return itself for the standard protocol; the paper's protocol prescribes another transform.

        Raises:
            ConfigError: The protocol is the paper's.
        """
        if protocol is Protocol.STANDARD:
            return self
        raise ConfigError(
            f"protocol 'paper' prescribes its own transform of {images} images, so a model with a custom transform can "
            "only be evaluated with protocol='standard' (or give image size, mean and std as a Preprocess)."
        )


class View(NamedTuple):
    """Which part of an image a model's square input shows, in parts of the image's width and height.

    A view of (0, 0, 1, 1) is the whole image; one that reaches beyond has borders.
    """

    left: float
    top: float
    right: float
    bottom: float


class Preprocess(Record):
    """How an RGB image becomes a model's square input.

    Normalisation is not part of the pixels: :class:`~spurious_imagenet.models.Classifier` applies ``mean``
    and ``std`` inside the network, so that pixels stay uint8 until then.

    Examples:
        >>> preprocess = Preprocess(size=32, resize=40)
        >>> preprocess.apply(np.zeros((90, 130, 3), np.uint8)).shape
        (32, 32, 3)
    """

    size: PositiveInt
    """Side of the square input, px."""
    resize: PositiveInt
    """Length of one side after resizing, px; ``resize_mode`` says which."""
    resize_mode: ResizeMode = "shortest"
    """``shortest``: the shorter side. ``squash``: both sides, which changes the aspect ratio. ``border`` and
    ``longest``: the longer side, and what is missing of the square is filled with the mean colour, or black."""
    interpolation: Literal["bicubic", "bilinear", "nearest", "lanczos"] = "bicubic"
    mean: tuple[float, float, float] = Field(default=(0.485, 0.456, 0.406))
    std: tuple[float, float, float] = Field(default=(0.229, 0.224, 0.225))

    @classmethod
    def evaluation(
        cls,
        size: int,
        crop_pct: float,
        interpolation: str,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        resize_mode: ResizeMode = "shortest",
    ) -> Preprocess:
        """Build timm's evaluation transform: resize to ``floor(size / crop_pct)``, then crop the centre.

        Raises:
            ModelError: The values make no transform.
        """
        if not 0 < crop_pct < math.inf:
            raise ModelError(f"got crop_pct {crop_pct}: expected a number above 0, such as 0.875.")
        values = {"size": size, "resize": math.floor(size / crop_pct), "resize_mode": resize_mode}
        try:
            return cls.model_validate(values | {"interpolation": interpolation, "mean": mean, "std": std})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ModelError(
                f"the model's transform cannot be made: {where} is {first['input']!r}: {first['msg']}."
            ) from error

    def for_protocol(self, protocol: Protocol, images: Literal["validation", "spurious"]) -> Preprocess:
        """Return the transform that a protocol prescribes for one side of the benchmark.

        Args:
            protocol: See :class:`Protocol`.
            images: Which side the images are on.
        """
        if protocol is Protocol.STANDARD:
            return self
        resize = int(256 / 224 * self.size) if images == "validation" else self.size
        changes = {"resize": resize, "resize_mode": "shortest", "interpolation": "bicubic"}
        return self.model_copy(update=changes)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop one image.

        Args:
            image: (H, W, 3) uint8.

        Returns:
            (size, size, 3) uint8, contiguous.
        """
        height, width = self.resized(image.shape[0], image.shape[1])
        if image.shape[:2] == (height, width):
            cropped = image[_centre(height, self.size), _centre(width, self.size)]
        elif self.interpolation == "nearest":  # takes single pixels: nothing to save, and a box would shift them
            resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST))
            cropped = resized[_centre(height, self.size), _centre(width, self.size)]
        else:
            cropped = _resize_and_crop(image, height, width, self.size, _FILTERS[self.interpolation])
        if min(cropped.shape[:2]) < self.size:
            fill = [round(255 * mean) for mean in self.mean] if self.resize_mode == "border" else [0, 0, 0]
            cropped = _pad(cropped, self.size, fill)
        return np.ascontiguousarray(cropped)

    def view(self, width: int, height: int) -> View:
        """Return what of an image of the given size, px, :meth:`apply` shows."""
        down, across = self.resized(height, width)
        left, top = _first(across, self.size), _first(down, self.size)
        return View(left / across, top / down, (left + self.size) / across, (top + self.size) / down)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width, px, to which an image is resized before the square is cut out of it."""
        if self.resize_mode == "squash":
            return self.resize, self.resize
        if self.resize_mode in {"border", "longest"}:
            ratio = max(height / self.resize, width / self.resize)
            return max(1, round(height / ratio)), max(1, round(width / ratio))
        short = min(height, width)
        long = int(self.resize * max(height, width) / short)
        return (self.resize, long) if height <= width else (long, self.resize)


def _resize_and_crop(
    image: NDArray[np.uint8], height: int, width: int, size: int, mode: Image.Resampling
) -> NDArray[np.uint8]:
    """Return the centre of the image resized to (height, width), computing no more than the centre.

    The two passes are Pillow's own, rows first as its whole-image resize does them.
    """
    rows, columns = _centre(height, size), _centre(width, size)
    scale_y, scale_x = image.shape[0] / height, image.shape[1] / width
    top, bottom = rows.start * scale_y, rows.stop * scale_y
    # Lanczos, the widest filter, reaches three output pixels beyond a side.
    margin = math.ceil(3 * max(scale_y, 1.0)) + 1
    first, last = max(0, int(top) - margin), min(image.shape[0], math.ceil(bottom) + margin)
    band = Image.fromarray(image[first:last])
    across = (columns.start * scale_x, 0, min(columns.stop * scale_x, band.width), band.height)
    band = band.resize((columns.stop - columns.start, band.height), mode, box=across)
    down = (0, top - first, band.width, min(bottom - first, band.height))
    return np.asarray(band.resize((band.width, rows.stop - rows.start), mode, box=down))


def _centre(length: int, size: int) -> slice:
    """Return where the centre ``size`` of ``length`` pixels lies, or all of them where there are fewer."""
    start = round((length - size) / 2.0) if length > size else 0
    return slice(start, start + min(length, size))


def _first(length: int, size: int) -> int:
    """Return where the crop of ``size`` begins: below 0 where there is a border, whose greater half comes last."""
    return _centre(length, size).start if length >= size else -((size - length) // 2)


def _pad(image: NDArray[np.uint8], size: int, fill: Sequence[int]) -> NDArray[np.uint8]:
    """Put borders of one colour around an image that is smaller than the crop, as torchvision does."""
    height, width = image.shape[:2]
    padded = np.empty((size, size, 3), np.uint8)
    padded[:] = fill
    top, left = (size - height) // 2, (size - width) // 2
    padded[top : top + height, left : left + width] = image
    return padded
