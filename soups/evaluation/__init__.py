"""Evaluation: logits, features and gradients of models on sets of images, and the judge that scores soups."""
