"""Floor 4: logits of models on sets of images, their scores, and the judge of soups."""
