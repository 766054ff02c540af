"""The compiled twin of the SimPy engine: the same nodes, servers and queues as records and plain functions.

`simulation/engine/` is the reference. docs/engine.md has both side by side.
"""
