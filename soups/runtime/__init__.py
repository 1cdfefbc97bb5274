"""Devices, seeds, worker processes, Ray and process groups."""
