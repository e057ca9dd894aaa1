"""Help for testing services.

loop.py     `VirtualTimeLoop`: an event loop whose clock jumps instead of waiting
fakes.py    `fake`, `fake_subject`: remote services that answer as the test says
metrics.py  the contract of metrics backends, for one of your own
callers.py  `caller`: a principal that the kits of the fixtures believe in
kit.py      `FixtureKit`: the kit of the fixtures; what was published, and what is dead
plugin.py   pytest fixtures; loaded by pytest itself, never imported from here
"""

from kitmsg.testing.callers import caller
from kitmsg.testing.fakes import Call, Fake, FakeEndpoint, fake, fake_subject
from kitmsg.testing.kit import DeadLetter, FixtureKit
from kitmsg.testing.loop import VirtualTimeLoop

__all__ = [
    "Call",
    "DeadLetter",
    "Fake",
    "FakeEndpoint",
    "FixtureKit",
    "VirtualTimeLoop",
    "caller",
    "fake",
    "fake_subject",
]
