"""Pictures that stages keep as files for each other, such as masks and visualisations; users' own masks too."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from spurious_imagenet.errors import DataError, one_line


def read_picture(path: str | Path, what: str = "picture") -> Image.Image:
    """Read a picture file as it is: the mode and size that it has.

    Args:
        path: The file.
        what: How messages call it.

    Raises:
        DataError: It cannot be read as a picture, for whatever reason.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise many types on malformed input
        said = one_line(error)
        raise DataError(
            f"{what} {path} cannot be read ({type(error).__name__}: {said}): expected an intact picture file."
        ) from error
