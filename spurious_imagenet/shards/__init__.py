"""Reading WebDataset shards: addresses, a strict tar index, and images by byte offset."""

from spurious_imagenet.shards._addresses import expand_shards
from spurious_imagenet.shards._images import ShardImages, StoredImage
from spurious_imagenet.shards._metadata import SampleMetadata, parse_metadata, read_metadata
from spurious_imagenet.shards._opening import LocalShard, open_shard
from spurious_imagenet.shards._ranges import read_ranges
from spurious_imagenet.shards.index import IMAGE_EXTENSIONS, SampleEntry, ShardIndex, index_shard

__all__ = [
    "IMAGE_EXTENSIONS",
    "LocalShard",
    "SampleEntry",
    "SampleMetadata",
    "ShardImages",
    "ShardIndex",
    "StoredImage",
    "expand_shards",
    "index_shard",
    "open_shard",
    "parse_metadata",
    "read_metadata",
    "read_ranges",
]
