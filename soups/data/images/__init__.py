"""Image files to arrays: decoding, geometry, caches."""
