"""`Client`: coalescing, timeouts, retries and a circuit breaker over any driver, live or simulated.

An operation is sent at once while a connection is free. Those that come in one turn of the loop while two others are
under way travel together, and so do those that wait while all connections are busy (coalescing). A batch that takes too
long is given up (timeout). Operations that may be repeated are tried again with backoff and jitter (retry). A server
that keeps failing is left alone for a while (circuit breaker). A connection that is free is handed to the first that
waits, also if that one is canceled in the same moment.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from ratesim.errors import CapacityError, StorageConnectionError, StorageError, StorageTimeoutError
from ratesim.runtime import Event, Future, Runtime
from ratesim.storage.config import ClientConfig
from ratesim.storage.remote.operations import Driver, Operation

__all__ = ["Client"]

logger = logging.getLogger(__name__)

# A connection that is freed while all are busy takes a share of the waiting operations. If it took all, it would be busy for
# long, the others would carry one operation each, and most of the time would go to the fixed cost of small batches.
# Of 1, 2, 3, 5 and 10, the best at all loads in simulation: 1 is a tenth faster at 60 % of the client's capacity, and
# needs four times as long at 85 %; live, the batches of 1 are seen as well (128, 70, 1, 1, 1, 1, 1, 1, 1, 1, 128, ...).
SHARES = 3
# Batches under way from which on an operation waits for the others of its turn of the loop. Of 1, 2, 3 and none, live:
# with 64 tasks 2 is the fastest, twice as fast as none, since the server works on a batch while the client makes the
# next one; with 2 tasks 1 costs a sixth.
ALONE = 2
SILENT = 0.8  # share of command_timeout after which a failure counts as no answer: a driver may give up a little earlier


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
        Failed batches, operations that were not sent, and those whose server of several was lost, by the class of the error.
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
        self._past_rewinds = 0  # of the drivers before this one
        self._rng = rng or np.random.default_rng(0)
        self._timeout = config.command_timeout
        self._free = config.pool_size
        self._waiting: deque[tuple[Operation | _Place, Future[Any]]] = deque()
        self._failures = 0
        self._open_until = 0.0
        self._last_failure = ""
        self._probing = False  # whether an operation is under way that decides whether the breaker closes
        self._closed = False
        self._sharded = bool(getattr(driver, "sharded", False))
        gathers = getattr(driver, "gathers", False)  # see `PromptDriver`
        self._reserve = max(config.pool_size - ALONE, 0) if gathers else 0  # connections that only gathered operations take
        self._next_turn = getattr(driver, "next_turn", None)  # of a simulated loop: there a task starts in this turn
        self._gathering = False  # whether a connection is taken for the operations of this turn
        self._idle: Event | None = None  # awaited by `close`

    def kill(self) -> None:
        """Stop at once, as a crash of the process would: nothing is sent any more."""
        self.driver = _DeadDriver()
        self._fail_waiting(StorageConnectionError("its process was killed", sent=False))

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
            client._past_rewinds = self.clock_rewinds
        self.driver = _DeadDriver()  # what is under way here sends nothing more
        self._waiting.clear()
        return client

    @property
    def clock_rewinds(self) -> int:
        """States that the server brought back to the time of a request, as far as its driver counts them."""
        return self._past_rewinds + int(getattr(self.driver, "clock_rewinds", 0))

    @property
    def breaker(self) -> str:
        """The circuit breaker: closed (normal), open (nothing is sent) or half-open (one operation probes)."""
        if self._failures < self.config.breaker_failures:
            return "closed"
        return "open" if self.runtime.monotonic() < self._open_until else "half-open"

    def _is_refusing(self) -> bool:
        """Return whether nothing is sent: the breaker is open, or the operation that probes is under way."""
        breaker = self.breaker
        return breaker == "open" or (breaker == "half-open" and self._probing)

    async def submit(self, operation: Operation) -> Any:
        """Send one operation and return its answer.

        Raises
        ------
        CapacityError
            `max_waiting` operations wait already.
        StorageError
            The server did not answer, or answered an error; or the storage is closed.
        """
        if self._closed:
            raise _closed_error()
        begin = self.runtime.monotonic() if self._sharded else 0.0
        if self._free > self._reserve:
            self._free -= 1
            try:
                answer = (await self._send([operation], self._timeout))[0]
            finally:
                self._release()
        else:
            if self._failures and self._is_refusing():  # at once, not when a connection is free
                raise self._count(self._open_error())
            taken = self.config.max_batch * (self._free + self._gathering)  # in this turn, and so not waiting
            if len(self._waiting) >= self.config.max_waiting + taken:
                raise self._count(CapacityError(f"{len(self._waiting)} operations wait for a connection already"))
            future: Future[Any] = self.runtime.future()
            self._waiting.append((operation, future))
            if self._free and not self._gathering:
                self._gather()
            try:
                answer = await future
            except BaseException:
                future.cancel()  # what nobody waits for is not sent
                raise
        if self._sharded and _may_repeat(operation, answer):
            (answer,) = await self._repeat([operation], [answer], begin)
        return _raise_or_return(answer)

    async def submit_all(self, operations: Sequence[Operation]) -> list[Any]:
        """Send several operations in as few batches as `max_batch` allows; a batch that fails does not keep others back.

        After a batch for whose answer it waited in vain nothing more is sent: a timeout for each would add up.

        Returns
        -------
        list
            The answers in order; of an operation that failed, its StorageError.
        """
        begin = self.runtime.monotonic()
        answers = await self._submit_all(operations, self._timeout)
        if self._sharded and any(map(_may_repeat, operations, answers)):
            answers = await self._repeat(operations, answers, begin)
        return answers

    async def _repeat(self, operations: Sequence[Operation], answers: list[Any], begin: float) -> list[Any]:
        """Send operations again whose server of several was lost, where that is safe; the others are not kept waiting."""
        for attempt in range(self.config.retries):
            failed = [place for place, answer in enumerate(answers) if _may_repeat(operations[place], answer)]
            pause = self._pause(attempt)
            if not failed or self._closed or self.runtime.monotonic() - begin + pause >= self._timeout:
                break
            await self.runtime.sleep(pause)
            seconds = self._timeout - (self.runtime.monotonic() - begin)
            again = await self._submit_all([operations[place] for place in failed], seconds)
            for place, answer in zip(failed, again, strict=True):
                answers[place] = answer
        return answers

    def _pause(self, attempt: int) -> float:
        """Draw the seconds before a try."""
        return float(self._rng.random()) * min(self.config.retry_cap, self.config.retry_base * 2.0**attempt)

    async def _submit_all(self, operations: Sequence[Operation], seconds: float) -> list[Any]:
        answers: list[Any] = []
        if self._closed:
            return [_closed_error()] * len(operations)
        for first in range(0, len(operations), self.config.max_batch):
            batch = operations[first : first + self.config.max_batch]
            begin = self.runtime.monotonic()
            try:
                await self._take_connection()
                begin = self.runtime.monotonic()
                try:
                    answers += await self._send(batch, seconds)
                finally:
                    self._release()
            except StorageError as error:
                answers += [error] * len(batch)
                if self._failures and self.runtime.monotonic() - begin >= SILENT * seconds:
                    unsent = StorageConnectionError("not sent, since the operations before had no answer", sent=False)
                    return answers + [unsent] * (len(operations) - len(answers))
        return answers

    async def _take_connection(self) -> None:
        """Take a free connection, or wait in the queue of operations until one is handed over."""
        if self._free:
            self._free -= 1
            return
        if self._failures and self._is_refusing():
            raise self._count(self._open_error())
        place, future = _Place(), self.runtime.future()
        self._waiting.append((place, future))
        try:
            refusal = await future
        except BaseException:
            future.cancel()
            if place.granted:
                self._release()
            raise
        if refusal is not None:
            raise refusal

    def _gather(self) -> None:
        """Take a free connection for all operations that come in this turn of the loop."""
        self._gathering = True
        self._free -= 1
        self.runtime.spawn(self._send_gathered())

    async def _send_gathered(self) -> None:
        if self._next_turn is not None:
            await self._next_turn()
        self._gathering = False
        batch = self._next_batch(1)
        while self._free and self._waiting:  # more than a batch, or one that waits for a connection
            self._free -= 1
            self._release(shares=1)
        if batch:
            await self._send_waiting(batch)
        else:
            self._release()

    def _release(self, shares: int = SHARES) -> None:
        """Hand a connection that is free to the first that waits, or put it back."""
        waiting = self._waiting
        while waiting and not self._gathering:  # what is gathered has its connection
            first, future = waiting[0]
            if future.done():  # its caller was canceled
                waiting.popleft()
            elif isinstance(first, _Place):
                waiting.popleft()
                first.granted = True
                future.set_result(None)
                return
            else:
                self.runtime.spawn(self._send_waiting(self._next_batch(min(self.config.pool_size, shares))))
                return
        self._free += 1
        if self._idle is not None and self._free == self.config.pool_size:
            self._idle.set()

    def _next_batch(self, shares: int) -> list[tuple[Operation, Future[Any]]]:
        """Take one of so many shares of the operations at the front of the queue, up to the first place of another kind."""
        share = min(self.config.max_batch, -(-len(self._waiting) // shares))
        batch: list[tuple[Operation, Future[Any]]] = []
        while self._waiting and len(batch) < share:
            operation, future = self._waiting[0]
            if isinstance(operation, _Place):
                break
            self._waiting.popleft()
            if not future.done():
                batch.append((operation, future))
        return batch

    async def _send_waiting(self, batch: list[tuple[Operation, Future[Any]]]) -> None:
        # Every waiting caller gets an answer or an error. An error that is no StorageError is a defect, raised to them.
        answered: list[tuple[Future[Any], object]] = []
        try:
            answers = await self._send([operation for operation, _ in batch], self._timeout)
            answered = [(future, answer) for (_, future), answer in zip(batch, answers, strict=True)]
        except Exception as error:  # noqa: BLE001
            answered = [(future, error) for _, future in batch]
        finally:
            self._release()
            if not answered:  # this task was canceled
                for _, future in batch:
                    future.cancel()
        for future, answer in answered:
            if not future.done():
                future.set_result(answer)

    async def _send(self, batch: Sequence[Operation], seconds: float) -> list[object]:
        """Send a batch, again after a failure if that is safe, for so many seconds in all."""
        self.operations += len(batch)
        probes = False
        if self._failures >= self.config.breaker_failures:
            if self._is_refusing():
                raise self._count(self._open_error())
            probes = self._probing = True
        end, attempt = self.runtime.monotonic() + seconds, 0
        try:
            while True:
                try:
                    self.batches += 1
                    driver = self.driver
                    within = getattr(driver, "execute_within", None)  # see `PromptDriver`
                    prompt = None if within is None else within(batch, seconds)
                    if prompt is None:
                        answers = await self.runtime.abandon_after(driver.execute(batch), seconds)
                    else:
                        answers = await prompt
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
                    if self._sharded:
                        self._count_lost(answers)
                    return answers
                repeatable = not sent or all(operation.repeatable for operation in batch)
                self._on_failure(failure)
                if not repeatable or attempt >= self.config.retries or self._failures >= self.config.breaker_failures:
                    raise failure
                pause = self._pause(attempt)
                if self.runtime.monotonic() + pause >= end:
                    raise failure
                await self.runtime.sleep(pause)
                seconds = end - self.runtime.monotonic()
                attempt += 1
        finally:
            if probes:
                self._probing = False

    async def close(self) -> None:
        """Refuse further operations, let those that were submitted finish, and close the driver.

        Operations that have not finished after `command_timeout` seconds fail.
        """
        self._closed = True
        try:
            if self._free < self.config.pool_size:
                await self.runtime.timeout(self._drained(), self._timeout)
        except TimeoutError:
            logger.warning("closed while operations were under way for more than %g s", self._timeout)
        finally:
            self._fail_waiting(_closed_error())
            try:
                await self.runtime.abandon_after(self.driver.close(), self.config.connection_timeout)
            except TimeoutError:
                logger.warning("connections were not closed within %g s", self.config.connection_timeout)

    async def _drained(self) -> None:
        while self._free < self.config.pool_size:  # between two batches of `submit_all` all may be free for a moment
            self._idle = Event(self.runtime)
            await self._idle.wait()

    def _fail_waiting(self, error: StorageError) -> None:
        waiting, self._waiting = self._waiting, deque()
        for _, future in waiting:
            if not future.done():
                future.set_result(error)

    def _on_failure(self, error: StorageError) -> None:
        self._failures += 1
        self._last_failure = str(error)
        if self._failures == self.config.breaker_failures and self.runtime.realtime:
            logger.warning("circuit breaker opened after %d failures in a row: %s", self._failures, error)
        if self._failures >= self.config.breaker_failures:
            self._open_until = self.runtime.monotonic() + self.config.breaker_reset
        self._count(error)

    def _on_recovery(self) -> None:
        if self._failures >= self.config.breaker_failures and self.runtime.realtime:
            logger.info("circuit breaker closed after %d failures in a row", self._failures)
        self._failures = 0

    def _count_lost(self, answers: Sequence[object]) -> None:
        """Count the operations whose server of several was lost."""
        for answer in answers:
            if isinstance(answer, StorageConnectionError | StorageTimeoutError):
                self._count(answer)

    def _open_error(self) -> StorageConnectionError:
        """Say what opened the breaker, which is the cause of this refusal too."""
        wait = self._open_until - self.runtime.monotonic()
        then = f"it tries again in {wait:.2g} s" if wait > 0 else "it is trying again at this moment"
        return StorageConnectionError(
            f"the circuit breaker is open after {self._failures} failures in a row (the last: {self._last_failure}); {then}",
            sent=False,
        )

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


class _Place:
    """Waits in the queue of operations for a connection, which then belongs to its caller."""

    granted = False


def _closed_error() -> StorageConnectionError:
    return StorageConnectionError("the storage is closed", sent=False)


def _may_repeat(operation: Operation, answer: object) -> bool:
    """Return whether an operation may be sent again, because its server was not reached or it has the effect of once."""
    return isinstance(answer, StorageConnectionError) and (operation.repeatable or not answer.sent)


def _raise_or_return(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer
