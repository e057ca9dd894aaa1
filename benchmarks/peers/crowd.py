"""A thousand instances of one service on the bus, as far as discovery can tell.

One connection answers for all of them: the INFO of a real instance, with other ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

import kitmsg
from benchmarks.peers.kit import Calculator

if TYPE_CHECKING:
    from benchmarks.peers import Setting
    from kitmsg import Kit
    from kitmsg.message import Message

__all__ = ["COUNT", "NAME", "serve"]

COUNT: Final = 1_000
NAME: Final = "crowd"


async def serve(setting: Setting) -> Kit:
    """Answer whoever asks for the instances, and whoever asks for one of them."""
    kit = await kitmsg.connect(setting.url)
    host = await kit.serve(type("Crowd", (Calculator,), {"name": "single"})())
    reply = await kit.bus.request(f"$SRV.INFO.single.{host.id}", b"", 5.0)
    told: dict[str, Any] = msgspec.json.decode(reply.data)
    infos: dict[str, bytes] = {}
    for number in range(COUNT):
        id_ = f"crowd{number:017}"
        text = msgspec.json.encode({**told, "name": NAME, "id": id_})
        infos[id_] = text.replace(b"single", NAME.encode())

    def answer(message: Message) -> None:
        named = message.subject.split(".")[3:]
        for id_ in named or infos:
            if id_ in infos:
                kit.bus.publish(message.reply, infos[id_])

    for subject in ("$SRV.INFO", f"$SRV.INFO.{NAME}", f"$SRV.INFO.{NAME}.*"):
        kit.bus.subscribe(subject, answer)
    await kit.bus.flush()
    return kit
