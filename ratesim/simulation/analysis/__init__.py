"""Stand-alone studies that pages show: of algorithms, of eviction, of saturation, and of the pressure of a limit.

None of them runs a scenario. Each module has functions from a limit and traffic to a table or a small result class.
"""
