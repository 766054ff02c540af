"""A package outside ratesim that brings an eighth algorithm; docs/adding-an-algorithm.md tells how it came about."""
