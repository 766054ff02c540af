"""`Client`: coalescing, timeouts, retries and a circuit breaker over any driver, live or simulated.

An operation is sent at once while a connection is free. While all connections are busy, operations wait and then travel
together (coalescing). A batch that takes too long is given up (timeout). Operations that may be repeated are tried again
with backoff and jitter (retry). A server that keeps failing is left alone for a while (circuit breaker).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from ratesim.errors import CapacityError, StorageConnectionError, StorageError, StorageTimeoutError
from ratesim.runtime import Future, Runtime
from ratesim.storage.config import ClientConfig
from ratesim.storage.remote.operations import Driver, Operation

__all__ = ["Client"]

logger = logging.getLogger(__name__)

# Of 1, 2, 3, 5 and 10, the best at all loads in simulation: 1 is a tenth faster at 60 % of the client's capacity, and
# needs four times as long at 85 %; live, the batches of 1 are seen as well (128, 70, 1, 1, 1, 1, 1, 1, 1, 1, 128, ...).
SHARES = 3


class Client:
    """Sends operations through a driver.

    Parameters
    ----------
    driver
        Carries out batches.
    runtime
        Time and tasks.
    config
        Connections, batches, timeouts, retries and the breaker.
    rng
        Draws the jitter of retries.

    Attributes
    ----------
    operations
        Operations sent.
    batches
        Batches sent, retries included.
    errors
        Failed batches and operations that were not sent, by the class of the error.
    """

    def __init__(
        self, driver: Driver, runtime: Runtime, config: ClientConfig, rng: np.random.Generator | None = None
    ) -> None:
        self.driver = driver
        self.runtime = runtime
        self.config = config
        self.operations = 0
        self.batches = 0
        self.errors: dict[str, int] = {}
        self._rng = rng or np.random.default_rng(0)
        self._timeout = config.command_timeout
        self._free = config.pool_size
        self._waiting: deque[tuple[Operation, Future[Any]]] = deque()
        self._failures = 0
        self._open_until = 0.0

    def kill(self) -> None:
        """Stop at once, as a crash of the process would: nothing is sent any more."""
        self.driver = _DeadDriver()
        waiting, self._waiting = self._waiting, deque()
        for _, future in waiting:
            if not future.done():
                future.set_exception(StorageConnectionError("its process was killed", sent=False))

    def successor(self, driver: Driver, afresh: bool) -> Client:
        """Return a client in place of this one, whose connections belong to another process or to a loop that has stopped.

        Parameters
        ----------
        driver
            Its driver.
        afresh
            Whether its counts start at 0, as those of another process; otherwise they go on from here.
        """
        client = Client(driver, self.runtime, self.config, self._rng)
        if not afresh:
            client.operations, client.batches, client.errors = self.operations, self.batches, self.errors
        self.driver = _DeadDriver()  # what is under way here sends nothing more
        self._waiting.clear()
        return client

    @property
    def breaker(self) -> str:
        """The circuit breaker: closed (normal), open (nothing is sent) or half-open (the next operation probes)."""
        if self._failures < self.config.breaker_failures:
            return "closed"
        return "open" if self.runtime.monotonic() < self._open_until else "half-open"

    async def submit(self, operation: Operation) -> Any:
        """Send one operation and return its answer.

        Raises
        ------
        CapacityError
            `max_waiting` operations wait already.
        StorageError
            The server did not answer, or answered an error.
        """
        if self._free and not self._waiting:
            self._free -= 1
            try:
                answers = await self._send([operation])
            finally:
                self._release()
            return _raise_or_return(answers[0])
        if len(self._waiting) >= self.config.max_waiting:
            raise self._count(CapacityError(f"{len(self._waiting)} operations wait for a connection already"))
        future: Future[Any] = self.runtime.future()
        self._waiting.append((operation, future))
        return await future

    async def submit_all(self, operations: Sequence[Operation]) -> list[Any]:
        """Send several operations in as few batches as `max_batch` allows; a batch that fails does not keep others back.

        Returns
        -------
        list
            The answers in order; of an operation that failed, its StorageError.
        """
        answers: list[Any] = []
        for first in range(0, len(operations), self.config.max_batch):
            batch = operations[first : first + self.config.max_batch]
            while not self._free:
                await self._wait_for_connection()
            self._free -= 1
            try:
                answers += await self._send(batch)
            except StorageError as error:
                answers += [error] * len(batch)
            finally:
                self._release()
        return answers

    async def _wait_for_connection(self) -> None:
        # Wait in the queue of operations; an operation of no effect marks the place.
        future: Future[Any] = self.runtime.future()
        self._waiting.append((_PLACE, future))
        await future

    def _release(self) -> None:
        while self._waiting and self._waiting[0][0] is _PLACE:
            _, future = self._waiting.popleft()
            if not future.done():
                self._free += 1
                future.set_result(None)
                return
        if not self._waiting:
            self._free += 1
            return
        # A connection takes a share of the waiting operations. If the first free one took all, it would be busy for long,
        # the others would carry one operation each, and most of the time would go to the fixed cost of small batches.
        share = min(self.config.max_batch, -(-len(self._waiting) // min(self.config.pool_size, SHARES)))
        batch: list[tuple[Operation, Future[Any]]] = []
        while self._waiting and len(batch) < share and self._waiting[0][0] is not _PLACE:
            operation, future = self._waiting.popleft()
            if not future.done():  # done already: the caller was canceled
                batch.append((operation, future))
        if batch:
            self.runtime.spawn(self._send_waiting(batch))
        else:
            self._free += 1

    async def _send_waiting(self, batch: list[tuple[Operation, Future[Any]]]) -> None:
        # Every waiting caller gets an answer or an error. An error that is no StorageError is a defect, raised to them.
        try:
            answers = await self._send([operation for operation, _ in batch])
        except Exception as error:  # noqa: BLE001
            answers = [error] * len(batch)
        finally:
            self._release()
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _send(self, batch: Sequence[Operation]) -> list[object]:
        self.operations += len(batch)
        attempt = 0
        while True:
            if self._failures and self.breaker == "open":
                raise self._count(StorageConnectionError("the circuit breaker is open", sent=False))
            try:
                self.batches += 1
                answers = await self.runtime.timeout(self.driver.execute(batch), self._timeout)
            except TimeoutError:
                failure: StorageError = StorageTimeoutError(
                    f"no answer within {self._timeout:g} s; raise command_timeout, or look at the server"
                )
                sent = True
            except StorageConnectionError as error:
                failure = error
                sent = error.sent
            else:
                if self._failures:
                    self._on_recovery()
                return answers
            repeatable = not sent or all(operation.repeatable for operation in batch)
            self._on_failure(failure)
            if not repeatable or attempt >= self.config.retries:
                raise failure
            longest = min(self.config.retry_cap, self.config.retry_base * 2.0**attempt)
            await self.runtime.sleep(float(self._rng.random()) * longest)
            attempt += 1

    def _on_failure(self, error: StorageError) -> None:
        self._failures += 1
        if self._failures == self.config.breaker_failures and self.runtime.realtime:
            logger.warning("circuit breaker opened after %d failures in a row: %s", self._failures, error)
        if self._failures >= self.config.breaker_failures:
            self._open_until = self.runtime.monotonic() + self.config.breaker_reset
        self._count(error)

    def _on_recovery(self) -> None:
        if self._failures >= self.config.breaker_failures and self.runtime.realtime:
            logger.info("circuit breaker closed after %d failures in a row", self._failures)
        self._failures = 0

    def _count(self, error: StorageError) -> StorageError:
        kind = type(error).__name__
        self.errors[kind] = self.errors.get(kind, 0) + 1
        return error


class _DeadDriver:
    """The driver of a process that was killed."""

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        raise StorageConnectionError("its process was killed", sent=False)

    async def close(self) -> None:
        """Do nothing: no connection is held."""


_PLACE = Operation()


def _raise_or_return(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer
