"""The backbone family `open_clip`: CLIP image towers and zero-shot heads."""
