"""Benchmarks: each prints a ratio against a peer that it measured in the same run."""
