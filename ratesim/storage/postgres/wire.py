"""`Wire`: statements on a connection that psycopg has made, over libpq directly.

psycopg connects, speaks TLS, authenticates, and carries out whatever is rare. A decision is one call of libpq that sends,
one reader of the loop that takes in what arrives, and one future: neither a cursor nor a generator takes part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from ratesim.storage.postgres.binary_format import BINARY, Call

__all__ = ["Wire"]

CLOSED = "the connection is closed"


class Wire:
    """Sends statements on a connection, one at a time, and receives their results.

    Parameters
    ----------
    pgconn
        The connection; it is in libpq's nonblocking mode, as psycopg leaves it.

    Attributes
    ----------
    prepares
        Whether statements are prepared in the session.
    """

    def __init__(self, pgconn: PGconn) -> None:
        self.prepares = False
        self._pgconn = pgconn
        self._prepared: set[bytes] = set()  # names
        self._loop: asyncio.AbstractEventLoop | None = None
        self._descriptor = -1  # that is registered in the loop
        self._future: asyncio.Future[PGresult] | None = None
        self._preparing: tuple[int, Call] | None = None  # the place among the results, and the statement
        self._results: list[PGresult] = []
        self._pipelined = False
        self._writes = False  # whether a writer is registered

    def send(
        self, call: Call, values: Sequence[bytes], before: Sequence[bytes] = (), after: Sequence[bytes] = ()
    ) -> asyncio.Future[PGresult]:
        """Send a statement; the future has its result, or raises the server's error as psycopg does.

        Statements before and after it, without parameters and answers of interest, travel in the same pipeline. All of them
        make one transaction, unless they say otherwise.
        """
        if self._descriptor < 0:
            self._listen()
        assert self._loop is not None
        future = self._future = self._loop.create_future()
        self._results, self._preparing = [], None
        name = call.name if call.name in self._prepared else None
        try:
            self._pipelined = bool(before or after or (self.prepares and name is None))
            if self._pipelined:
                self._pgconn.enter_pipeline_mode()
            for text in before:
                self._pgconn.send_query_params(text, None, result_format=BINARY)
            if name is not None:
                self._pgconn.send_query_prepared(name, values, call.formats, result_format=BINARY)
            elif self.prepares:
                name, self._preparing = call.name, (len(before), call)
                self._pgconn.send_prepare(name, call.text, call.oids)
                self._pgconn.send_query_prepared(name, values, call.formats, result_format=BINARY)
            else:
                self._pgconn.send_query_params(call.text, values, call.oids, call.formats, BINARY)
            for text in after:
                self._pgconn.send_query_params(text, None, result_format=BINARY)
            if self._pipelined:
                self._pgconn.pipeline_sync()
            if self._pgconn.flush():
                self._writes = True
                self._loop.add_writer(self._descriptor, self._on_writable)
        except psycopg.OperationalError as error:
            self._lose(error)
        return future

    def pause(self) -> None:
        """Leave the socket to psycopg."""
        if self._descriptor >= 0:
            assert self._loop is not None
            if not self._loop.is_closed():
                self._loop.remove_reader(self._descriptor)
                if self._writes:
                    self._loop.remove_writer(self._descriptor)
            self._descriptor, self._writes = -1, False

    def close(self) -> None:
        """Close the connection without waiting for the server."""
        self.pause()
        self._pgconn.finish()
        if self._future is not None and not self._future.done():
            self._future.set_exception(psycopg.OperationalError(CLOSED))
            self._future.exception()  # not logged where nobody waits any more

    def _listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = self._pgconn.socket  # raises OperationalError where it is closed
        self._loop.add_reader(self._descriptor, self._on_readable)

    def _on_writable(self) -> None:
        try:
            if self._pgconn.flush():
                return
        except psycopg.OperationalError as error:
            self._lose(error)
            return
        if self._loop is not None:
            self._loop.remove_writer(self._descriptor)
        self._writes = False

    def _on_readable(self) -> None:
        pgconn, future = self._pgconn, self._future
        if future is None or future.done():  # an idle server has nothing to say but that it ends the session
            self.close()
            return
        try:
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    if self._pipelined:  # the end of one statement of several
                        continue
                    break
                if result.status == ExecStatus.PIPELINE_SYNC:
                    pgconn.exit_pipeline_mode()
                    break
                self._results.append(result)
            else:
                return
        except psycopg.OperationalError as error:
            self._lose(error)
            return
        self._settle(future)

    def _settle(self, future: asyncio.Future[PGresult]) -> None:
        """Answer with the rows, or with the first error."""
        answer: PGresult | None = None
        if self._preparing is not None:
            place, call = self._preparing
            if len(self._results) > place and self._results[place].status == ExecStatus.COMMAND_OK:
                self._prepared.add(call.name)
        for result in self._results:
            if result.status == ExecStatus.FATAL_ERROR:
                future.set_exception(psycopg.errors.error_from_result(result))
                return
            if result.status == ExecStatus.TUPLES_OK:
                answer = result  # the last one: those before it are of settings
        if answer is None:
            future.set_exception(psycopg.InternalError("an answer without rows"))
        else:
            future.set_result(answer)

    def _lose(self, error: psycopg.OperationalError) -> None:
        """Close, and tell the caller: by the server's own last words if there are any."""
        future = self._future
        if future is not None and not future.done():
            if any(result.status == ExecStatus.FATAL_ERROR for result in self._results):
                self._settle(future)
            else:
                future.set_exception(error)
            future.exception()  # not logged where the caller is canceled in this moment
        self.close()
