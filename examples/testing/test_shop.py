"""Testing events: what was published, what is told for later, and a schedule."""

import asyncio

import pytest

from examples.shop.events import OrderPaid
from examples.shop.mail import DAYS, Mail
from kitmsg.testing import FixtureKit


@pytest.fixture
async def mail(kit: FixtureKit) -> Mail:
    """The service, and a paid order that it has heard of."""
    await kit.serve(Mail)
    await kit.publish(OrderPaid("A1", 4200))
    await kit.settled()
    return kit.client(Mail)


async def test_a_customer_is_thanked(mail: Mail) -> None:
    """`settled` returns when all that is stored has been worked on."""
    assert await mail.sent() == ["A1: thank you"]


async def test_a_review_is_asked_for_in_three_days(mail: Mail) -> None:
    """Three days take no time: the clock of a test jumps to what happens next."""
    await asyncio.sleep(3 * DAYS + 60)
    assert "A1: how was it?" in await mail.sent()


async def test_the_owner_has_a_digest_each_morning(mail: Mail) -> None:
    await asyncio.sleep(2 * DAYS)
    mornings = [text for text in await mail.sent() if text.startswith("owner")]
    assert len(mornings) == 2
