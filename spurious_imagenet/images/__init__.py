"""From image bytes to the pixels a model sees."""

from spurious_imagenet.images._decode import DecodeLimits, UndecodableImageError, decode_again, decode_image
from spurious_imagenet.images._files import read_picture
from spurious_imagenet.images.preprocess import CustomTransform, ImageTransform, Preprocess, Protocol, View

__all__ = [
    "CustomTransform",
    "DecodeLimits",
    "ImageTransform",
    "Preprocess",
    "Protocol",
    "UndecodableImageError",
    "View",
    "decode_again",
    "decode_image",
    "read_picture",
]
