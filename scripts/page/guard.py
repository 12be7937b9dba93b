"""What is refused before Gradio sees it: uploads that are too large, and addresses that nobody needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

MOST_BYTES = 200 * 1000 * 1000  # of a request
_REFUSED = ("/proxy=", "/process_recording", "/deep_link", "/dev/", "/custom_component/")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class TooLargeError(Exception):
    """The body of a request has more bytes than are taken."""


class Guard:
    """ASGI middleware. Files that were uploaded come back without the right to run scripts."""

    def __init__(self, app: Callable[..., Awaitable[None]], most_bytes: int = MOST_BYTES) -> None:
        self._app, self._most = app, most_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = unquote(scope["path"])
        _, is_file, name = path.partition("/file=")
        if any(part in path for part in _REFUSED) or (is_file and "://" in name.replace(":/", "://")):
            await _answer(send, 403, "not served here")
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._most:
            await _answer(send, 413, self._too_large())
            return
        taken, has_begun = 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise TooLargeError
            return message

        async def safe(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
                if is_file:
                    message["headers"].append((b"content-security-policy", b"sandbox; default-src 'none'"))
            await send(message)

        try:
            await self._app(scope, counted, safe)
        except TooLargeError:
            if not has_begun:
                await _answer(send, 413, self._too_large())

    def _too_large(self) -> str:
        return f"the file is larger than the {self._most // 10**6} MB that are taken; cut or reduce it"


async def _answer(send: Send, status: int, words: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": words.encode()})
