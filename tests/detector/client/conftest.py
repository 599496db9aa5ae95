"""Both clients behind one way of asking."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from detector.client import AsyncClient, Client


def _sync(address: str, method: str, *arguments: Any, settings: Mapping[str, Any], **named: Any) -> Any:
    with Client(address, **settings) as client:
        return getattr(client, method)(*arguments, **named)


def _async(address: str, method: str, *arguments: Any, settings: Mapping[str, Any], **named: Any) -> Any:
    async def ask() -> Any:
        async with AsyncClient(address, **settings) as client:
            return await getattr(client, method)(*arguments, **named)

    return asyncio.run(ask())


@pytest.fixture(params=[_sync, _async], ids=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """``ask(address, method, *arguments, settings={}, **named)`` calls a method of one of the clients."""

    def call(
        address: str, method: str, *arguments: Any, settings: Mapping[str, Any] = {}, **named: Any
    ) -> Any:
        return request.param(address, method, *arguments, settings=settings, **named)

    return call
