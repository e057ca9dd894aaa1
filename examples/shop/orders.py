"""Takes orders.  What it publishes leaves if and only if its transaction commits."""

from msgspec import Struct
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from examples.shop.database import Database, OrderRow
from examples.shop.events import OrderPaid, OrderPlaced
from kitmsg import (
    BusinessError,
    Code,
    Kit,
    Service,
    background,
    endpoint,
    outbox,
    subscribe,
)


class NoSuchOrder(BusinessError):
    """Nobody has placed it."""

    code = Code.NOT_FOUND
    template = "there is no order {order_id}"
    order_id: str


class Order(Struct):
    """An order as its customer sees it."""

    order_id: str
    cents: int
    is_paid: bool


class Orders(Service):
    """Takes orders, and knows which are paid."""

    publishes = (OrderPlaced,)

    def __init__(self, kit: Kit) -> None:
        self.database = Database()
        self.relay = outbox.Relay(
            self.database.engine, kit.jetstream, metrics=kit.metrics
        )

    async def start(self) -> None:
        await self.database.make_tables()

    async def stop(self) -> None:
        await self.database.close()

    @endpoint(http="PUT /orders/{order_id}", idempotent=True)
    async def place(self, order_id: str, cents: int) -> Order:
        """Place an order.  Placing it again changes nothing."""
        try:
            async with self.database.begin() as session:
                session.add(OrderRow(order_id=order_id, cents=cents))
                await outbox.add(session, OrderPlaced(order_id, cents))
        except IntegrityError:
            pass  # it was placed before, and its event left then
        return await self.get(order_id)

    @endpoint(http="GET /orders/{order_id}", idempotent=True, raises=[NoSuchOrder])
    async def get(self, order_id: str) -> Order:
        """Return an order."""
        async with self.database.begin() as session:
            row = await session.scalar(
                select(OrderRow).where(OrderRow.order_id == order_id)
            )
        if row is None:
            raise NoSuchOrder(order_id)
        return Order(row.order_id, row.cents, row.is_paid)

    @subscribe(OrderPaid)
    async def paid(self, event: OrderPaid) -> None:
        """Note that an order is paid; twice is as good as once."""
        async with self.database.begin() as session:
            await session.execute(
                update(OrderRow)
                .where(OrderRow.order_id == event.order_id)
                .values(is_paid=True)
            )

    @background
    async def publish_committed(self) -> None:
        """Relay the outbox, of all services here: they have one database."""
        await self.relay.run()
