"""Networks: an image tower from open_clip or timm, a linear head, and the files that they come from."""
