"""The loop whose clock jumps."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from kitmsg.testing import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=True) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def slow_work() -> str:
    time.sleep(0.02)
    return "done"


def test_an_hour_takes_no_time_but_the_clock_shows_it() -> None:
    """A sleep of a thousand hours ends at once, and `loop.time()` has moved by it."""

    async def main() -> float:
        await asyncio.sleep(3_600_000)
        return now()

    assert run(main()) == pytest.approx(3_600_000)


def test_years_take_no_time() -> None:
    """Also when a float of seconds has no nanoseconds any more."""

    async def main() -> float:
        for day in range(1000):
            await asyncio.sleep(86400.1 + day / 7)
        return asyncio.get_running_loop().time()

    assert run(main()) > 1000 * 86400


def test_timers_run_in_the_order_of_their_times() -> None:
    """Whoever sleeps less wakes first, whatever the order of starting."""

    async def main() -> list[tuple[float, float]]:
        woken: list[tuple[float, float]] = []

        async def sleeper(seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append((seconds, now()))

        await asyncio.gather(*map(sleeper, [30, 0.001, 7, 0.002, 7.5]))
        return woken

    woken = run(main())
    assert [seconds for seconds, _ in woken] == [0.001, 0.002, 7, 7.5, 30]
    assert all(at == pytest.approx(seconds) for seconds, at in woken)


def test_timeout_ends_what_never_ends() -> None:
    """`asyncio.timeout` fires at its own virtual time."""

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        return now()

    assert run(main()) == pytest.approx(60)


def test_a_thread_is_waited_for_while_a_timer_is_set() -> None:
    """A job in a thread beats a distant timer; the clock does not jump past it."""

    async def main() -> tuple[str, float]:
        async with asyncio.timeout(3600):
            answer = await asyncio.to_thread(slow_work)
        return answer, now()

    answer, at = run(main())
    assert answer == "done"
    assert at < 3600


def test_the_clock_jumps_again_after_a_thread() -> None:
    """Real time ends with the job: later sleeps take no time."""

    async def main() -> float:
        await asyncio.to_thread(slow_work)
        before = now()
        await asyncio.sleep(3600)
        return now() - before

    assert run(main()) == pytest.approx(3600)


def test_a_thread_is_waited_for_without_any_timer() -> None:
    """Waiting for a thread alone is no deadlock, nor is joining it at the end."""

    async def main() -> str:
        return await asyncio.to_thread(slow_work)

    assert run(main()) == "done"


def test_a_timer_fires_though_a_thread_is_stuck() -> None:
    """A thread may wait for a timer of the loop: it fires when its time has come."""
    go = threading.Event()

    async def main() -> float:
        asyncio.get_running_loop().call_later(0.05, go.set)
        assert await asyncio.to_thread(go.wait, 30)
        return now()

    assert run(main()) >= 0.05


def test_call_soon_threadsafe_wakes_the_loop() -> None:
    """A thread can hand work to the loop while the loop waits for the thread."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        heard: list[str] = []
        called = threading.Event()

        def hear() -> None:
            heard.append("called")
            called.set()

        def work() -> None:
            loop.call_soon_threadsafe(hear)
            assert called.wait(30)

        await asyncio.to_thread(work)
        return heard

    assert run(main()) == ["called"]


def test_a_thread_may_run_a_coroutine_that_sleeps() -> None:
    """`run_coroutine_threadsafe` from a job works, timers and all."""

    async def nap() -> str:
        await asyncio.sleep(0.01)
        return "slept"

    async def main() -> str:
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(
            lambda: asyncio.run_coroutine_threadsafe(nap(), loop).result(30)
        )

    assert run(main()) == "slept"


def test_a_thread_of_its_own_may_call_back() -> None:
    """A thread that the loop did not start is given time before all is called stuck."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def work() -> None:
            loop.call_soon_threadsafe(answer.set_result, slow_work())

        threading.Thread(target=work).start()
        return await answer

    assert run(main()) == "done"


def test_a_socket_is_waited_for() -> None:
    """What comes over a real socket is received though an earlier jump was possible."""

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        near.setblocking(False)
        sender = threading.Thread(target=lambda: far.sendall(slow_work().encode()))
        sender.start()
        try:
            async with asyncio.timeout(3600):
                return await loop.sock_recv(near, 10)
        finally:
            sender.join()
            near.close()
            far.close()

    assert run(main()) == b"done"


@pytest.mark.parametrize("how", ["exec", "shell"])
def test_a_subprocess_is_waited_for(how: str) -> None:
    """A program without pipes, so without sockets, is waited for until it ends."""
    program = [
        sys.executable,
        "-c",
        "import time; time.sleep(0.02); raise SystemExit(7)",
    ]

    async def main() -> int:
        if how == "exec":
            process = await asyncio.create_subprocess_exec(*program)
        else:
            process = await asyncio.create_subprocess_shell("sleep 0.02; exit 7")
        return await process.wait()

    assert run(main()) == 7


def test_a_deadlock_is_told_with_names_and_places() -> None:
    """When nothing can wake the loop, the error names each task and where it waits."""

    async def stuck_consumer() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(stuck_consumer(), name="the-consumer")
        await task

    with pytest.raises(RuntimeError, match="deadlock: nothing is scheduled") as caught:
        run(main())
    assert "the-consumer in " in str(caught.value)
    assert "stuck_consumer (" in str(caught.value)
    assert "test_loop.py:" in str(caught.value)


def test_a_deadlock_leaves_the_runner_usable_for_cleaning_up() -> None:
    """Tasks are cancelled as usual after a deadlock, so ``finally`` blocks run."""
    closed: list[str] = []

    async def main() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(1)
            closed.append("closed")

    with pytest.raises(RuntimeError, match="deadlock"):
        run(main())
    assert closed == ["closed"]


def test_ctrl_c_ends_a_wait() -> None:
    """SIGINT reaches a loop that waits for a thread, as `asyncio.Runner` promises."""
    # It does so only in place of Python's own handler, which an earlier test may not
    # have left.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    release = threading.Event()

    def interrupt() -> None:
        # To this thread, as a terminal's: another library's may take what the process gets.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        release.wait(30)

    async def main() -> None:
        try:
            await asyncio.to_thread(interrupt)
        finally:
            release.set()

    with pytest.raises(KeyboardInterrupt):
        run(main())
