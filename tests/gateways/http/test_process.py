"""A gateway as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import aiohttp


async def test_python_m_serves_until_a_signal(nats_server):
    """`python -m kitmsg_gateways.http` says where it is, serves, and ends with code 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kitmsg_gateways.http",
        "--port",
        "0",
        env={**os.environ, "NATS_URL": nats_server.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            assert process.stdout is not None
            url = (await process.stdout.readline()).split()[0].decode()
            async with aiohttp.ClientSession(url) as session:
                async with session.get("/readyz") as response:
                    assert response.status == 200
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_python_m_without_a_bus_says_so():
    """One sentence and exit code 1, not a traceback."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kitmsg_gateways.http",
        "--servers",
        "nats://127.0.0.1:1",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"gateway: " in said
    assert b"Traceback" not in said
