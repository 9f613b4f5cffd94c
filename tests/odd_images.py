"""Ordinary valid image files of kinds that few programs write; nothing but NumPy and Pillow is needed to read this."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from itertools import product

import numpy as np
from PIL import Image

__all__ = ["ODD_IMAGES", "block_jpeg", "odd_image", "quilt"]

_QUANTISER = 8
#: A Huffman code of five bits for each size of a difference, and of one bit for "nothing more in this block".
_CODES = bytes([0, 0, 0, 0, 16, *[0] * 11, *range(16)]), bytes([1, *[0] * 15, 0])


def quilt(seed: int = 0, blocks: int = 2, side: int = 64) -> np.ndarray:
    """Return (S, S, 3) uint8 squares of plain colours, which even the coarsest subsampling keeps."""
    colours = np.random.default_rng(seed).integers(30, 226, (blocks, blocks, 3), dtype=np.uint8)
    return colours.repeat(side // blocks, axis=0).repeat(side // blocks, axis=1)


def block_jpeg(
    planes: np.ndarray, sampling: Sequence[tuple[int, int]], *, bits: int = 8, adobe: int | None = None
) -> bytes:
    """Write a JPEG of any sampling factors whose 8x8 blocks are plain.

    Args:
        planes: (H, W, C) values of the components, as they are stored.
        sampling: Horizontal and vertical factor of each component.
        bits: Of a sample, 8 or 12.
        adobe: Colour transform of an Adobe marker; no marker where left out.
    """
    height, width, count = planes.shape
    order = [(1, 1)] if count == 1 else sampling  # blocks of a lone component come row by row, whatever its factors
    across, down = (max(factor[axis] for factor in order) for axis in (0, 1))
    out = [b"\xff\xd8", _segment(0xDB, bytes([0, *[_QUANTISER] * 64]))]
    if adobe is not None:
        out.append(_segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, adobe)))
    parts = b"".join(bytes([i + 1, h << 4 | v, 0]) for i, (h, v) in enumerate(sampling))
    frame = struct.pack(">BHHB", bits, height, width, count) + parts
    out.append(_segment(0xC0 if bits == 8 else 0xC1, frame))
    out += [_segment(0xC4, bytes([16 * i]) + code) for i, code in enumerate(_CODES)]
    parts = b"".join(bytes([i + 1, 0]) for i in range(count))
    out.append(_segment(0xDA, bytes([count]) + parts + bytes([0, 63, 0])))
    written, before = [], [0] * count
    for top, left in product(range(0, height, 8 * down), range(0, width, 8 * across)):
        for c, (h, v) in enumerate(order):
            rows, columns = 8 * down // v, 8 * across // h
            for i, j in product(range(v), range(h)):
                y, x = top + i * rows, left + j * columns
                block = planes[y : y + rows, x : x + columns, c]
                level = round((float(block.mean()) - 2 ** (bits - 1)) * 8 / _QUANTISER)
                written.append(_difference(level - before[c]) + "0")
                before[c] = level
    return b"".join([*out, _stuffed("".join(written)), b"\xff\xd9"])


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _difference(value: int) -> str:
    size = abs(value).bit_length()
    bits = value if value > 0 else value + 2**size - 1
    return f"{size:05b}" + (f"{bits:0{size}b}" if size else "")


def _stuffed(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")


def _ycc(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("YCbCr"))


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _deep_png(pixels: np.ndarray) -> bytes:
    """Write a PNG of 16 bits per channel and three channels, which Pillow reads but does not write."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = (pixels.astype(np.uint16) * 257).astype(">u2").reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _jpeg(*luma: int) -> bytes:
    return block_jpeg(_ycc(quilt()), [(luma[0], luma[1]), (1, 1), (1, 1)])


def _picture(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(quilt()).convert(mode)


#: Kind → function that makes it of :func:`quilt`.
ODD_IMAGES = {
    "JPEG, chroma 4:4:1 (luma 1x4)": lambda: _jpeg(1, 4),
    "JPEG, chroma 4:4:0 (luma 1x2)": lambda: _jpeg(1, 2),
    "JPEG, chroma 4:1:1 (luma 4x1)": lambda: _jpeg(4, 1),
    "JPEG, chroma 4:1:0 (luma 4x2)": lambda: _jpeg(4, 2),
    "JPEG, luma 2x4": lambda: _jpeg(2, 4),
    "JPEG, chroma finer than luma": lambda: block_jpeg(_ycc(quilt()), [(1, 1), (2, 2), (2, 2)]),
    "JPEG, chroma planes unlike each other": lambda: block_jpeg(_ycc(quilt()), [(2, 2), (2, 1), (1, 2)]),
    "JPEG of RGB, Adobe marker 0": lambda: block_jpeg(quilt(), [(1, 1)] * 3, adobe=0),
    "JPEG, grey with factors 2x2": lambda: block_jpeg(_ycc(quilt())[..., :1], [(2, 2)]),
    "JPEG, grey with factors 1x4": lambda: block_jpeg(_ycc(quilt())[..., :1], [(1, 4)]),
    "JPEG of 12 bits": lambda: block_jpeg(_ycc(quilt()).astype(np.uint16) * 16, [(1, 1)] * 3, bits=12),
    "JPEG, progressive CMYK": lambda: _saved(_picture("CMYK"), "JPEG", quality=95, progressive=True),
    "JPEG, CMYK with factors 2x1 and 1x1": lambda: block_jpeg(
        255 - np.asarray(_picture("CMYK")), [(2, 1), (1, 1), (1, 1), (2, 1)], adobe=0
    ),
    "PNG, animated": lambda: _saved(_picture(), "PNG", save_all=True, append_images=[Image.fromarray(quilt(1))]),
    "PNG of 16 bits per channel": lambda: _deep_png(quilt()),
    "PNG of grey and alpha": lambda: _saved(_picture("LA"), "PNG"),
    "PNG of one bit": lambda: _saved(_picture("1"), "PNG"),
    "TIFF of one bit, fax": lambda: _saved(_picture("1"), "TIFF", compression="group4"),
    "TIFF of CMYK": lambda: _saved(_picture("CMYK"), "TIFF", compression="tiff_lzw"),
    "TIFF of packed bytes": lambda: _saved(_picture(), "TIFF", compression="packbits"),
    "WebP, lossless and animated": lambda: _saved(
        _picture(), "WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(quilt(1))]
    ),
    "GIF of two colours": lambda: _saved(_picture("1"), "GIF"),
    "BMP of one bit": lambda: _saved(_picture("1"), "BMP"),
}


def odd_image(kind: str) -> bytes:
    """Return the bytes of one of :data:`ODD_IMAGES`."""
    return ODD_IMAGES[kind]()
