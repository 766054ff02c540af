from dataclasses import dataclass


@dataclass(frozen=True)
class Claimed:
    backend: str
    claim: str
    measured: str
    holds: str


def claims(*a):
    return ()
