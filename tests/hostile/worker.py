"""Feeds mutated inputs to every loader in a process of its own, and tells what went wrong as JSON lines.

    python tests/hostile/worker.py COUNT SEED

A line of what a loader raised that is none of its errors, and a last line with the longest time and the memory.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from loaders import make_loaders
from mutations import mutate

from ratesim.errors import RatesimError
from traffic import TrafficError

HANG = 120.0  # seconds after which the process ends with the stack of what hangs


def main(count: int, seed: int) -> None:
    warnings.simplefilter("error", RuntimeWarning)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "log.csv").write_bytes(b"time,key,cost,status\n1600000000,a,1,200\n")
        loaders = make_loaders(folder)
        everything = [seed for loader in loaders.values() for seed in loader.seeds]
        for loader in loaders.values():  # each takes what is whole, and is compiled and imported then
            for each in loader.seeds:
                with contextlib.suppress(RatesimError, TrafficError):
                    _load(loader, folder / "input", each)
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        slowest: dict[str, float] = {}
        longest, refused = 0, 0
        for number in range(count):
            rng = random.Random(seed * 1_000_003 + number)
            kind = list(loaders)[number % len(loaders)]
            loader = loaders[kind]
            data = mutate(rng, rng.choice(loader.seeds), everything if rng.random() < 0.2 else loader.seeds)
            faulthandler.dump_traceback_later(HANG, exit=True)
            began, said = time.process_time(), ""
            try:
                _load(loader, folder / "input", data)
            except (RatesimError, TrafficError) as error:
                refused += 1
                said = str(error)
                if "\n" in said or len(said) > 2500:
                    print(json.dumps({"loader": kind, "number": number, "long": said[:300], "length": len(said)}))
            except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
                print(json.dumps({"loader": kind, "number": number, "raised": traceback.format_exc()[-1500:]}))
            spent = time.process_time() - began
            faulthandler.cancel_dump_traceback_later()
            slowest[kind] = max(spent, slowest.get(kind, 0.0))
            longest = max(longest, len(said))
            if spent > 2.0:
                print(
                    json.dumps(
                        {"loader": kind, "number": number, "seconds": spent, "begins": repr(data[:60]), "size": len(data)}
                    )
                )
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024
        print(
            json.dumps({"count": count, "refused": refused, "seconds": slowest, "megabytes": grown, "characters": longest})
        )


def _load(loader: object, path: Path, data: bytes) -> None:
    path.write_bytes(data)
    loader.load(path)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
