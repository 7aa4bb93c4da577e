"""Measurements that `make bench-...` runs; each prints one JSON object as its last line."""
