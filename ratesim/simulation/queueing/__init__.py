"""Queues in simulated time: a FIFO station, shared processors, and the statistics that prove that they are queues.

The package knows nothing of rate limiting. Use `fifo_station.FifoStation`, `processor_sharing.EventLoopCPU`,
`processor_sharing.MultiCoreCPU` and `station_stats.StationStats`.
"""
