"""Calls addsvc over the bus, and catches its errors by type.

    kitmsg dev examples/addsvc              in one terminal
    python -m examples.addsvc.client        in another

The bus is the one that NATS_URL names, else nats://127.0.0.1:4222.  It prints

    1 + 2 = 3
    'ab' + 'cd' = 'abcd'
    refused: two zeroes are not worth a call
    refused: 2147483647 + 1 is not within 32 bits (a was 2147483647)
    refused: the result has 12 bytes, at most 10 are allowed
"""

import asyncio

import kitmsg
from examples.addsvc.service import AddService, IntOverflow, MaxSizeExceeded, TwoZeroes
from kitmsg.middleware import retry


async def show(addsvc: AddService) -> None:
    """Call both endpoints; `addsvc` may be the service itself or a client of it."""
    print("1 + 2 =", await addsvc.sum(1, 2))
    print("'ab' + 'cd' =", repr(await addsvc.concat("ab", "cd")))
    try:
        await addsvc.sum(0, 0)
    except TwoZeroes as error:
        print("refused:", error)
    try:
        await addsvc.sum(2**31 - 1, 1)
    except IntOverflow as error:
        print(f"refused: {error} (a was {error.a})")
    try:
        await addsvc.concat("kilo", "byte per")
    except MaxSizeExceeded as error:
        print("refused:", error)


async def main() -> None:
    async with kitmsg.connect() as kit:
        await show(kit.client(AddService, timeout=2.0, middleware=[retry()]))


if __name__ == "__main__":
    asyncio.run(main())
