"""The steps to the end, one after the other; tests/api/test_lifecycle.py takes them with a real process."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from api.frontend.shutdown import Shutdown, refuse_cancelled


def server() -> Any:
    state = SimpleNamespace(tasks=set(), connections=set())
    return SimpleNamespace(should_exit=False, force_exit=False, server_state=state)


def test_one_signal_waits_for_load_balancers_and_then_for_requests() -> None:
    async def run() -> None:
        shutdown, told = Shutdown(0.05, 0.55), server()
        shutdown.signal(told, asyncio.get_running_loop())
        await asyncio.sleep(0)
        assert (shutdown.unready, shutdown.draining, told.should_exit) == (True, False, False)
        await asyncio.wait_for(shutdown.refusing.wait(), 30)
        assert (shutdown.draining, told.should_exit, told.force_exit) == (True, True, False)

    asyncio.run(run())


def test_a_second_signal_refuses_at_once_and_a_third_ends() -> None:
    async def run() -> None:
        shutdown, told = Shutdown(600, 600), server()
        loop = asyncio.get_running_loop()
        shutdown.signal(told, loop)
        shutdown.signal(told, loop)
        await asyncio.wait_for(shutdown.refusing.wait(), 30)
        assert (told.should_exit, told.force_exit) == (True, False)
        shutdown.signal(told, loop)
        assert told.force_exit

    asyncio.run(run())


def test_a_signal_before_the_server_runs_ends_it() -> None:
    told = server()
    Shutdown(600, 600).signal(told, None)
    assert told.force_exit


def test_what_is_read_expires_when_the_rest_is_refused() -> None:
    async def run() -> None:
        shutdown = Shutdown(0, 0)
        shutdown.signal(server(), asyncio.get_running_loop())
        async with asyncio.timeout(600) as limit:
            with shutdown.expiring(limit):
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(run())


@pytest.mark.parametrize("started", [False, True])
def test_a_cancelled_request_is_refused_unless_its_answer_has_begun(started: bool) -> None:
    async def run() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        scope: dict[str, Any] = {"type": "http", "method": "GET", "state": {}}
        waits = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if started:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            waits.set()
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        task = asyncio.create_task(refuse_cancelled(app)(scope, receive, send))  # type: ignore[arg-type]
        await waits.wait()
        task.cancel()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError) is started
        return sent, scope["state"]

    sent, state = asyncio.run(run())
    assert [message.get("status") for message in sent] == ([200] if started else [503, None])
    assert state.get("error_code") == (None if started else "draining")
