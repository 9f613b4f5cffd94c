"""The stages that turn images into features, concepts, candidates and datasets."""
