"""The smallest service.

    kitmsg dev examples/greeter.py
    curl localhost:8080/hello/Ann           prints "Hello, Ann!"
    kitmsg call greeter.hello name=Ann      prints "Hello, Ann!"

Run as ``python examples/greeter.py`` it is a worker on the bus that NATS_URL names.
"""

import kitmsg
from kitmsg import Service, endpoint


class Greeter(Service):
    """Says hello."""

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str) -> str:
        """Greet somebody by name."""
        return f"Hello, {name}!"


if __name__ == "__main__":
    kitmsg.run(Greeter())
