"""A connection on which something that is no HTTP comes in or behind a request."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from modelward.api.connections import guarded_protocol
from modelward.settings import Settings

BEGUN = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = BEGUN + b"0\r\n\r\n"


class Wire(asyncio.Transport):
    """Notes what is written until it is closed."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 4000), "sockname": ("127.0.0.1", 80)})
        self.written, self.closing = b"", False

    def write(self, data: Any) -> None:
        assert not self.closing
        self.written += data

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@pytest.mark.parametrize(
    ("begun", "sent", "answers"),
    [
        (BEGUN, 0, [b"400"]),
        (BEGUN, 1, [b"200"]),
        (BEGUN, 2, [b"200"]),
        (WHOLE, 2, [b"200", b"400"]),
    ],
)
def test_garbage_never_gets_into_an_answer_and_no_request_gets_two(
    tmp_path: Path, begun: bytes, sent: int, answers: list[bytes]
) -> None:
    parts = [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]},
        {"type": "http.response.body", "body": b"good", "more_body": True},
        {"type": "http.response.body", "body": b""},
    ]

    async def run() -> bytes:
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            for part in parts[: (0, 2, 3)[sent]]:
                await send(part)
            reached.set()
            await go_on.wait()

        config = uvicorn.Config(app, log_config=None, lifespan="off")
        config.load()
        protocol = guarded_protocol(Settings(data=tmp_path), lambda _limit: None)(
            config, ServerState(), {}
        )
        wire = Wire()
        protocol.connection_made(wire)
        protocol.data_received(begun)
        await asyncio.wait_for(reached.wait(), 10)
        protocol.data_received(b"no HTTP\r\n\r\n")
        go_on.set()
        await asyncio.sleep(0)
        assert wire.closing
        protocol.connection_lost(None)
        return wire.written

    written = asyncio.run(run())
    assert [part[:3] for part in written.split(b"HTTP/1.1 ")[1:]] == answers
    assert (b"good" in written) == (sent > 0)
