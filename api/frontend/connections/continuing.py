"""``Expect: 100-continue`` where the answer comes before the body was asked for."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


def close_if_body_was_not_asked_for(app: ASGIApp) -> ASGIApp:
    """Have the connection closed behind an answer to a request that still waits for ``100 Continue``.

    Whether its client sends the body after all or the next request, nobody could tell (RFC 9110, section
    10.1.1).
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not any(name == b"expect" for name, _ in scope["headers"]):
            await app(scope, receive, send)
            return
        asked = False

        async def asking() -> Message:
            nonlocal asked
            asked = True
            return await receive()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and not asked:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await app(scope, asking, sending)

    return answer
