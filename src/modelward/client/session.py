"""Calls in the name of an organisation: its key, its headers, its uploads."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx

from modelward.client.errors import ServiceError
from modelward.client.results import UploadTarget
from modelward.client.transport import Call, Transport
from modelward.client.wire import json_object
from modelward.domain import UnauthenticatedError, UploadDialect

__all__ = ["Session"]


class Session:
    """Holds the secrets of a client, so that nothing else needs to.

    Args:
        url: Address of the service with its base path.
        org_id: Organisation id.
        api_key: API key; None: the service is asked for one when the first call needs it.
        transport: Sends the calls.

    Raises:
        UnauthenticatedError: Neither id nor key.
    """

    def __init__(
        self, url: str, org_id: str | None, api_key: str | None, transport: Transport
    ) -> None:
        if org_id is None and api_key is None:
            raise UnauthenticatedError(
                "expected an organisation id or an API key, got neither; pass org_id= or api_key=, "
                "or set MODELWARD_ORG_ID or MODELWARD_API_KEY (`modelward org create` makes both)"
            )
        self._url = url
        self._org_id = org_id
        self._api_key = api_key
        self._transport = transport

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def stream(self, call: Call) -> AbstractContextManager[httpx.Response]:
        """Send a call; the body of the answer is still to be read."""
        return self._transport.stream(call)

    def call(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Call:
        """Describe a call with key and organisation.

        GET and DELETE count as idempotent, and so does a call with an idempotency key.
        """
        headers = {"x-api-key": self._key()}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        if self._org_id is not None:
            headers["Org-Id"] = self._org_id
        options: dict[str, Any] = {"headers": headers, "params": query}
        if body is not None:
            options["json"] = body
        harmless = method in {"GET", "DELETE"} or idempotency_key is not None
        return Call(method, self._url + path, what, harmless, options=lambda: dict(options))

    def json(self, method: str, path: str, what: str, **rest: Any) -> dict[str, Any]:
        """Send a call (see ``call``) and read the JSON object that answers it."""
        call = self.call(method, path, what, **rest)
        return json_object(call, self._transport.send(call))

    def upload(self, target: UploadTarget, path: Path) -> None:
        """Send a file to its place, in the dialect of that place."""
        multipart = target.dialect is UploadDialect.POST
        with path.open("rb") as file:

            def options() -> dict[str, Any]:
                file.seek(0)
                if multipart:
                    part = (path.name, file, "application/octet-stream")
                    return {"data": dict(target.fields), "files": {"file": part}}
                return {"content": file, "headers": {"content-type": "application/octet-stream"}}

            # No authentication headers: the URL carries its own token, and may point elsewhere.
            # A repeated upload replaces the earlier one, so retries are harmless.
            what = f"upload of {target.slot} ({path.name})"
            method, expected = ("POST", 204) if multipart else ("PUT", 200)
            call = Call(method, target.url, what, idempotent=True, options=options)
            status = self._transport.send(call).status_code
        if status != expected:
            raise ServiceError(f"{what}: expected status {expected}, got {status}")

    def _key(self) -> str:
        if self._api_key is None:
            call = Call(
                "GET",
                self._url + "/get_aws_api_key",
                "request for an API key",
                idempotent=True,
                options=lambda: {"headers": {"Org-Id": self._org_id or ""}},
            )
            answer = json_object(call, self._transport.send(call))
            if not answer.get("x_api_key"):
                raise ServiceError(f"{call.what}: expected x_api_key, got keys {list(answer)}")
            self._api_key = str(answer["x_api_key"])
        return self._api_key
