"""The backbone family `timm`: networks of the timm library."""
