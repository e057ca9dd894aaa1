"""Events at a door: published by clients, and read by them from the log.

    door.py      `EventDoor`: the open events of one gateway
    known.py     an event as its services describe it: subject, stream, schema
    requests.py  `Publishing` and `Following`: the requests that middlewares see
    posted.py    `Posted`: an event that a client publishes
    feed.py      the log of an event, read once for all who follow it
    follower.py  one who follows: where it stands, and what comes next
    batch.py     events that stand one behind the other
    since.py     the place in a log where a follower begins
    told.py      a stored event as readers are told of it

Which events are open is the operator's word (``--events``); none are by default.  What an
event is, services on the bus say.  Errors have the codes that calls have:

    NotFound            no such event is open
    PermissionDenied    it is open to publish only, or to read only
    InvalidArgument     an attribute or a field does not fit; the path of it is named
    AlreadyExists       another source has an event of that id
    ResourceExhausted   the stream is full
    Unavailable         no stream, no store, or no service that says what it is
    DeadlineExceeded    no word in time; to publish again with the same id does no harm

A protocol's folder knows how its clients say events, and nothing of these.
"""

from __future__ import annotations

from kitmsg_gateways.edge.events.batch import Batch
from kitmsg_gateways.edge.events.door import EventDoor
from kitmsg_gateways.edge.events.follower import Follower
from kitmsg_gateways.edge.events.posted import Posted
from kitmsg_gateways.edge.events.requests import Following, Publishing
from kitmsg_gateways.edge.events.since import Since, read_since

__all__ = [
    "Batch",
    "EventDoor",
    "Follower",
    "Following",
    "Posted",
    "Publishing",
    "Since",
    "read_since",
]
