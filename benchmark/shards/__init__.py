"""Reading WebDataset shards: addresses, a strict tar index, and images by byte offset."""

from spurious_imagenet.benchmark.shards.addresses import expand_shards
from spurious_imagenet.benchmark.shards.images import ShardImages, StoredImage
from spurious_imagenet.benchmark.shards.index import IMAGE_EXTENSIONS, SampleEntry, ShardIndex, index_shard
from spurious_imagenet.benchmark.shards.metadata import SampleMetadata, parse_metadata, read_metadata
from spurious_imagenet.benchmark.shards.opening import LocalShard, open_shard
from spurious_imagenet.benchmark.shards.ranges import read_ranges

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
