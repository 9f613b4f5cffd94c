"""Packing image folders into WebDataset shards, and checking shards against their manifest."""

from spurious_imagenet.builders.shards.attribution import AttributionTable
from spurious_imagenet.builders.shards.folder import ImageFile, ImageFolder
from spurious_imagenet.builders.shards.manifest import ShardManifest, ShardRecord, verify_manifest
from spurious_imagenet.builders.shards.pack import ShardsConfig, pack_shards

__all__ = [
    "AttributionTable",
    "ImageFile",
    "ImageFolder",
    "ShardManifest",
    "ShardRecord",
    "ShardsConfig",
    "pack_shards",
    "verify_manifest",
]
