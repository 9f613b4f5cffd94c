"""Datasets as they are published and measured on: manifests, images with their labels, rankings, predictions."""
