"""Packing image folders into WebDataset shards, and checking shards against their manifest."""

from spurious_imagenet.builders.shards.attribution import AttributionTable, Coverage
from spurious_imagenet.builders.shards.folder import ImageFile, ImageFolder
from spurious_imagenet.builders.shards.manifest import ShardManifest, ShardRecord, verify_manifest
from spurious_imagenet.builders.shards.pack import ShardsConfig, pack_shards
from spurious_imagenet.builders.shards.survey import Survey

__all__ = [
    "AttributionTable",
    "Coverage",
    "ImageFile",
    "ImageFolder",
    "ShardManifest",
    "ShardRecord",
    "ShardsConfig",
    "Survey",
    "pack_shards",
    "verify_manifest",
]
