"""Work in other processes, its results in order.

A worker is a fresh Python that reads requests from its standard input and writes replies to its standard output. Unlike a worker of
`multiprocessing` it never imports the program's main module (which may load a whole deep learning framework), needs no
`if __name__ == "__main__"` there, and ends by itself when the program is killed, because its input ends.
"""

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from typing import IO

from bert4k.errors import Error

Function = Callable[[bytes], bytes]
Make = Callable[[str], Function]


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered(make: Make, argument: str, requests: Iterable[bytes], workers: int) -> Generator[bytes, None, None]:
    """`make(argument)(request)` for every request, in order, computed by so many worker processes; by 0, in this process.

    `make` is a function of a module; it is called once in each worker. A request is taken when a worker will soon be free for it, so
    that memory does not grow with their number. Raises `Error` when a worker ends before its work is done.
    """
    if workers == 0:
        yield from map(make(argument), requests)
        return
    crew = threading.local()
    started: list[_Worker] = []

    def work(request: bytes) -> bytes:
        if not hasattr(crew, "worker"):
            crew.worker = _Worker(make, argument)
            started.append(crew.worker)
        reply: bytes = crew.worker(request)
        return reply

    waiting: deque[Future[bytes]] = deque()
    threads = ThreadPoolExecutor(workers)  # one of them waits for each worker
    try:
        for request in requests:
            waiting.append(threads.submit(work, request))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
        for worker in started:
            worker.close()


class _Worker:
    """A process that answers requests, one at a time."""

    def __init__(self, make: Make, argument: str) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from bert4k.pretraining import workers; workers.serve()"
        # In a process group of its own, so that Ctrl-C at the terminal reaches only the parent, which then ends it.
        self._process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
        self._opening = [make.__module__.encode(), make.__qualname__.encode(), argument.encode()]

    def __call__(self, request: bytes) -> bytes:
        sink, source = self._process.stdin, self._process.stdout
        assert sink
        assert source
        try:
            for message in (*self._opening, request):
                _send(sink, message)
            self._opening = []
            reply = _receive(source)
        except BrokenPipeError:
            reply = None
        if reply is None:
            code = self._process.wait()
            why = f"was ended by signal {-code}, perhaps for want of memory" if code < 0 else f"ended with exit code {code}, see above"
            raise Error(f"A worker process {why}. Expected it to answer; start again, with fewer workers if memory is short.")
        return reply

    def close(self) -> None:
        """End it by ending its input, and wait until it has ended."""
        with self._process as process, suppress(BrokenPipeError):  # of one that died with a request on its way
            assert process.stdin
            process.stdin.close()


def serve() -> None:
    """The life of a worker: what to make and of what, then requests, until there are no more."""
    source = sys.stdin.buffer
    # Whatever else is printed must not get between the replies.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    opening = [message.decode() for message in (_receive(source) for _ in range(3)) if message is not None]
    if len(opening) < 3:  # the parent was gone before it said what to do
        return
    module, name, argument = opening
    function: Function = getattr(import_module(module), name)(argument)
    while (request := _receive(source)) is not None:
        try:
            _send(sink, function(request))
        except BrokenPipeError:  # the parent is gone
            os._exit(1)


def _send(sink: IO[bytes], message: bytes) -> None:
    sink.write(len(message).to_bytes(8, "little"))
    sink.write(message)
    sink.flush()


def _receive(source: IO[bytes]) -> bytes | None:
    """The next message, or None when there is no more, or only a part of one."""
    header = source.read(8)
    size = int.from_bytes(header, "little")
    message = source.read(size) if len(header) == 8 else b""
    return message if (len(header), len(message)) == (8, size) else None
