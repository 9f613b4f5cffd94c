"""The orientation tag of an image file, which is not applied here but is elsewhere."""

from __future__ import annotations

import io

from PIL import ExifTags, Image

__all__ = ["is_turned_elsewhere"]

_UPRIGHT = 1


def is_turned_elsewhere(data: bytes) -> bool:
    """Tell whether programs that honour the EXIF orientation show an image otherwise than a model sees it here.

    Browsers, FiftyOne and the ``Image`` feature of ``datasets`` turn or mirror such an image; ``decode_image``, timm
    and torchvision do not. A TIFF's own tag is part of its pixels for all of them, so that TIFFs never count.

    Args:
        data: The image file's bytes.

    Returns:
        False too where the bytes are not an image, or the tag cannot be read.
    """
    if b"Exif" not in data and b"EXIF" not in data and b"eXIf" not in data:  # JPEG; WebP; PNG
        return False
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.format != "TIFF" and 1 < image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT) <= 8
    except MemoryError:
        raise
    except Exception:  # a damaged tag is ignored by those who would honour it
        return False
