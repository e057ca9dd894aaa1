"""Events, tells and schedules: messages that must not get lost, on JetStream.

    event.py       `Event`: the class, with its subject; `upcast`
    template.py    subjects with fields in them
    stream.py      `Stream`: options of the stream that stores events
    envelope.py    an event as a message, with CloudEvents' attributes, and back
    publish.py     publishes, and returns when it is stored
    log.py         reads what is stored, and follows it
    subscribe.py   ``@subscribe``: a method that is given events
    schedule.py    ``@every`` and ``@cron``; ticks.py stores each time once
    tells.py       stored calls, now or at a time
    background.py  ``@background`` and ``self.spawn``
    handlers.py    parameters of such methods, checked
    receiver.py    a consumer's deliveries, as turns of the mailbox
    unstored.py    the same for events as they happen, at most once
    attempt.py     one attempt at a delivery, and how it ends
    attempts.py    how many attempts began, where deliveries are no measure
    retries.py     when the next attempt is; `Reject`
    dead.py        dead letters
    measures.py    metrics of deliveries: age, lag, redeliveries, dead letters
    spans.py       spans of what is stored and delivered
    declared.py    the streams that classes need, and the plan to have them

What is promised:

- Published means stored: `Kit.publish` returns with the stream's word, and is retried under
  one message id until then.
- Delivery is at least once.  An attempt that fails is followed by the next after a wait,
  and the last one by a dead letter, which is stored before the original is given up.
- A delivery that is worked on stays out of others' hands for as long as its instance lives.
- A subscription has a bounded number in flight; its backlog stays in the stream.
- What drain finds not begun is given back at once.

Nothing here knows of services: `kitmsg.service.employed` brings both together.
"""

from __future__ import annotations

from kitmsg.events.background import background
from kitmsg.events.event import Event, facts_of, upcast
from kitmsg.events.log import Log
from kitmsg.events.retries import Reject
from kitmsg.events.schedule import cron, every
from kitmsg.events.stream import Stream
from kitmsg.events.subscribe import subscribe

__all__ = [
    "Event",
    "Log",
    "Reject",
    "Stream",
    "background",
    "cron",
    "every",
    "facts_of",
    "subscribe",
    "upcast",
]
