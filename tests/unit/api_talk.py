"""Talks to the app without a network: any client address, no server process."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from modelward.api import create_app
from modelward.settings import Settings

BASE = "/api/ais/v1.5"


@dataclass
class Talk:
    """A started app and one organisation."""

    app: FastAPI
    headers: dict[str, str]
    organisation: int

    def client(self, address: str = "192.0.2.1", **options: Any) -> httpx.AsyncClient:
        """A client that seems to call from ``address``."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", **options)


def talk(folder: Path, conversation: Callable[[Talk], Awaitable[None]], **settings: Any) -> None:
    """Start the app, hold the conversation, stop the app."""
    app = create_app(Settings(data=folder, **settings), worker_command=[sys.executable, "-c", "0"])

    async def run() -> None:
        async with app.router.lifespan_context(app):
            made = app.state.service.tenants.create("a")
            headers = {"Org-Id": made.organisation_id, "x-api-key": made.api_key}
            number = app.state.service.tenants.organisation(made.organisation_id)
            await conversation(Talk(app, headers, number))

    asyncio.run(run())
