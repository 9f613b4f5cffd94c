"""Reading WebDataset shards: addresses, a strict tar index, and images by byte offset."""
