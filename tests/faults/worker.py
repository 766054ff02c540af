"""Run by load.py: a process of a load, which is one node. Commands come by stdin, answers go to stdout, as lines of JSON.

python worker.py NODE URL TAG CONSISTENCY FALLBACK TASKS SEED
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
from functools import partial
from typing import Any

from disturbances import FAR, ask_refused_keys, cancel_callers, move_clock
from subjects import PLENTY, SCARCE, Lag, Policy, Subject

PAIRS = 5  # of a scarce and a plenty key: ten hot keys
PACE = 0.12  # seconds between two requests of a task


def say(word: str, **more: Any) -> None:
    print(json.dumps({"word": word, **more}), flush=True)


async def call(subject: Subject, number: int, seed: int) -> None:
    """One task: hot keys in random order, with a session for each."""
    rng = random.Random(seed * 1000 + number)
    sessions: dict[str, str | None] = {}
    while not subject.ended:
        pair = rng.randrange(PAIRS)
        key, limit = rng.choice(((f"scarce{pair}", SCARCE), (f"plenty{pair}", PLENTY)))
        answer, sessions[key] = await subject.ask(0, key, limit, sessions.get(key))
        subject.answers.append(answer)
        await asyncio.sleep(PACE * (0.5 + rng.random()))


def resources() -> dict[str, int]:
    """What this process holds."""
    gc.collect()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()) - 1,
    }


def disturbance(fault: str, node: int, keys: list[str]) -> Any:
    """The part of this node in a fault of callers, keys or clocks."""
    return {
        "cancel": partial(cancel_callers, plenty="plenty0"),
        "poison": partial(ask_refused_keys, keys=keys),
        "clock_ahead": partial(move_clock, seconds=FAR if node == 0 else 0.0),
        "clock_back": partial(move_clock, seconds=-FAR if node == 0 else 0.0),
    }.get(fault)


async def main(node: int, url: str, tag: str, policy: Policy, tasks: int, seed: int) -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    before = resources()
    lag = Lag()
    lag_task = asyncio.create_task(lag.run())
    subject = Subject.open(policy, url, tag, nodes=1)
    await subject.recover()
    say("ready")
    callers: list[asyncio.Task[None]] = []
    disturbing: asyncio.Task[None] | None = None
    while line := await commands.readline():
        command = json.loads(line)
        if command["word"] == "begin":
            callers = [asyncio.create_task(call(subject, number, seed + node)) for number in range(tasks)]
        elif command["word"] == "fault":
            disturb = disturbance(command["fault"], node, command["keys"])
            disturbing = asyncio.create_task(disturb(subject)) if disturb else None
        elif command["word"] == "mended":
            if disturbing is not None:
                disturbing.cancel()
                await asyncio.wait([disturbing])
            await subject.recover()
            say("well")
        elif command["word"] == "end":
            subject.ended = True
            done, stuck = await asyncio.wait(callers, timeout=command["patience"])
            for task in done:
                task.result()
            await subject.close()
            lag_task.cancel()
            await asyncio.wait([lag_task])
            deadline = time.monotonic() + command["patience"]
            while (after := resources())["tasks"] > before["tasks"] or after["descriptors"] > before["descriptors"]:
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.05)
            say(
                "told",
                answers=[[a.begin, a.end, a.key, a.allowed, a.error] for a in subject.answers],
                unknown=subject.unknown,
                largest=subject.largest,
                canceled=subject.canceled,
                right_at=subject.right_at,
                well_at=subject.well_at[0],
                stuck=len(stuck),
                lag=lag.most,
                left={name: after[name] - before[name] for name in ("tasks", "descriptors")},
            )
            break
    transport.close()


if __name__ == "__main__":
    _, node, url, tag, consistency, fallback, tasks, seed = sys.argv
    asyncio.run(main(int(node), url, tag, Policy(consistency, fallback), int(tasks), int(seed)))
