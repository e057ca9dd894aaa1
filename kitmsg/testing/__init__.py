"""Help for testing services.

loop        `VirtualTimeLoop`: an event loop whose clock jumps instead of waiting
plugin      pytest fixtures; loaded by pytest itself, never imported from here
"""

from kitmsg.testing.loop import VirtualTimeLoop

__all__ = ["VirtualTimeLoop"]
