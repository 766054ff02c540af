"""What belongs to a process and an event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import weakref

import pytest

from ratesim.errors import StorageError
from ratesim.runtime import Binding, abandon_descriptors


async def enter(binding: Binding) -> None:
    binding.enter()


def test_an_owner_makes_its_things_anew_when_its_loop_has_stopped() -> None:
    renewed: list[bool] = []
    binding = Binding(renewed.append)
    binding.enter()  # outside of any loop
    assert not renewed
    asyncio.run(enter(binding))
    assert not renewed
    asyncio.run(enter(binding))
    assert renewed == [False]
    loop = asyncio.new_event_loop()
    for _ in range(3):  # a loop may stop and run again
        loop.run_until_complete(enter(binding))
    loop.close()
    assert renewed == [False, False]
    binding.leave()
    asyncio.run(enter(binding))
    assert renewed == [False, False]


async def test_another_loop_is_refused_while_the_former_one_runs() -> None:
    renewed: list[bool] = []
    binding = Binding(renewed.append)
    binding.enter()
    with pytest.raises(StorageError, match=r"ratesim\.storage\.sync"):
        await asyncio.to_thread(asyncio.run, enter(binding))
    binding.enter()
    assert not renewed


def test_an_owner_is_not_kept_alive() -> None:
    class Owner:
        def __init__(self) -> None:
            self.binding = Binding(self.renew)

        def renew(self, forked: bool) -> None:
            raise AssertionError(forked)

    owner = weakref.ref(Owner())
    gc.collect()
    assert owner() is None


def test_nothing_is_sent_on_descriptors_that_are_abandoned() -> None:
    mine, other = socket.socketpair()
    abandon_descriptors([mine.fileno(), -1])
    assert other.recv(1) == b""  # the last descriptor of that end is gone
    os.write(mine.fileno(), b"goes nowhere")
    mine.close()
    other.close()


def test_a_fork_renews_in_the_child_alone() -> None:
    renewed: list[bool] = []
    binding = Binding(renewed.append)
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, repr((renewed, binding.thread)).encode())
        os._exit(0)
    os.wait()
    assert os.read(reader, 100) == b"([True], 0)"
    os.close(reader)
    os.close(writer)
    assert not renewed
