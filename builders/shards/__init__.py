"""Packing image folders into WebDataset shards, and checking shards against their manifest."""

from spurious_imagenet.builders.shards._attribution import AttributionTable, Coverage
from spurious_imagenet.builders.shards._manifest import ShardManifest, ShardRecord, verify_manifest
from spurious_imagenet.builders.shards._pack import ShardsConfig, pack_shards
from spurious_imagenet.builders.shards._survey import Survey
from spurious_imagenet.builders.shards.folder import ImageFile, ImageFolder

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
