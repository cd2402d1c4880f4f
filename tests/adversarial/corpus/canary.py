"""A payload that tells when it runs: it writes a file and connects to a port."""

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self


class Canary:
    """Listens on a free port of this machine; use as a context manager.

    Attributes:
        file: What the payload writes.
        port: Where the payload connects to.
        calls: Connections so far.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "canary"
        self.calls = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # a thread in accept does not notice that its socket is closed
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"end")
        self._thread.join(10)
        self._server.close()

    def _serve(self) -> None:
        while True:
            call, _ = self._server.accept()
            with call:
                if call.recv(3) == b"end":
                    return
            self.calls += 1

    @property
    def sang(self) -> bool:
        """Whether the payload ran."""
        return self.file.exists() or self.calls > 0

    @property
    def python(self) -> str:
        """The payload as a Python expression."""
        return (
            f"(open({str(self.file)!r}, 'w').close(), "
            f"__import__('socket').create_connection(('127.0.0.1', {self.port}), 2).close())"
        )

    @property
    def shell(self) -> str:
        """The payload as a command line."""
        return f"touch {self.file}"
