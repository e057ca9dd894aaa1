"""Events of the shop.  Both are in the stream `orders`, by the first word of their subject."""

from kitmsg import Event


class OrderPlaced(Event, subject="orders.placed.{order_id}"):
    """Somebody wants to buy."""

    order_id: str
    cents: int


class OrderPaid(Event, subject="orders.paid.{order_id}"):
    """The money is there."""

    order_id: str
    cents: int
