"""Review of concepts and images by several labelers who do not see each other's answers."""
