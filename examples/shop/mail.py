"""Writes mails: now, later, and every morning."""

from examples.shop.events import OrderPaid
from kitmsg import Kit, Service, cron, endpoint, subscribe

DAYS = 86_400


class Mail(Service):
    """Writes to customers, and to the shop's owner."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self._sent: list[str] = []  # an example: a mail server would have them

    @subscribe(OrderPaid, once=True)
    async def thank(self, event: OrderPaid) -> None:
        """Thank now, and ask for a review in three days."""
        self._sent.append(f"{event.order_id}: thank you")
        later = self.kit.tell(Mail, after=3 * DAYS, id=f"review-{event.order_id}")
        await later.ask_for_review(event.order_id)

    @endpoint(durable=True)
    async def ask_for_review(self, order_id: str) -> None:
        """Ask how it was; told, so that it is not forgotten."""
        self._sent.append(f"{order_id}: how was it?")

    @cron("0 7 * * *", tz="Europe/Paris")
    async def digest(self) -> None:
        """Sum up, once in the fleet, in the morning of the shop's owner."""
        self._sent.append(f"owner: {len(self._sent)} mails were sent")

    @endpoint
    async def sent(self) -> list[str]:
        """Return the mails that this instance has sent."""
        return self._sent
