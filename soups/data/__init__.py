"""From folders and tables of images to batches: layouts, groups, splits, decoding, cache, augmentation, loading."""
