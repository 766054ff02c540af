"""The network of a simulated deployment: links with delay and loss, load balancing, and bytes on the wire.

It knows traces and storage operations, and nothing of simulated time. Use `links.PRESETS`, `load_balancer.Router`,
`wire_size.wire_protocol` and `counter_rng.draw`.
"""
