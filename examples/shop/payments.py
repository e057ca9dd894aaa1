"""Charges each order once, however often it hears of it."""

from sqlalchemy import select

from examples.shop.database import ChargeRow, Database, LimitRow
from examples.shop.events import OrderPaid, OrderPlaced
from examples.shop.orders import Orders
from kitmsg import Reject, Service, endpoint, outbox, subscribe

LIMIT = 100_00


class Payments(Service):
    """Takes the money."""

    publishes = (OrderPaid,)

    def __init__(
        self, orders: Orders
    ) -> None:  # so it starts after the tables are made
        self.database = Database()

    async def stop(self) -> None:
        await self.database.close()

    @subscribe(OrderPlaced)
    async def charge(self, event: OrderPlaced) -> None:
        """Charge an order.  Note, charge and event are of one transaction."""
        async with self.database.begin() as session:
            if await outbox.seen(session):
                return
            limit = await session.scalar(select(LimitRow.cents)) or LIMIT
            if event.cents > limit:
                # To try again is no use: a dead letter, for somebody to look at.
                raise Reject(f"{event.cents} cents are over the limit of {limit}")
            session.add(ChargeRow(order_id=event.order_id, cents=event.cents))
            await outbox.add(session, OrderPaid(event.order_id, event.cents))

    @endpoint
    async def set_limit(self, cents: int) -> None:
        """Set the most that one order may cost."""
        async with self.database.begin() as session:
            await session.merge(LimitRow(number=1, cents=cents))
