"""Balancing: which instance gets a call, and which one the next attempt.

Go kit's `sd/lb`, and what load has taught since:

    node.py        one instance: its endpoint or connection, its load, its latency
    endpointer.py  a node for each instance of an instancer, kept while it is there
    picker.py      the protocol of pickers, and what they share
    p2c.py         two at random, the one where a call waits less: the usual one
    roundrobin.py  in turn; chance.py: any; weighted.py: shares by weight
    ring.py        the same node for the same key, with bounded load

    named.py       all of these as text, for command lines

Around another picker:

    subset.py      a few of many, always the same ones
    zone.py        our own zone first
    slowstart.py   new nodes get their share little by little
    outlier.py     nodes that fail get no calls for a while

    balancer.py    the picker's choice among those that can be reached
    balanced.py    an endpoint over all: attempts, one deadline, another instance each time

On the bus:

    routes.py      `direct`, `sticky`, `version`, `split`: which instances get a client's calls
    fleet.py       a service's instances there, and the calls that are routed to them
    everyone.py    one call to each instance, and its answers
"""

from __future__ import annotations

from kitmsg.balance.balanced import Attempts, CannotConnect, NoInstance, balanced
from kitmsg.balance.chance import at_random
from kitmsg.balance.endpointer import Endpointer
from kitmsg.balance.everyone import Answer
from kitmsg.balance.node import Node
from kitmsg.balance.outlier import outlier_ejection
from kitmsg.balance.p2c import p2c
from kitmsg.balance.picker import Picker
from kitmsg.balance.ring import consistent_hash
from kitmsg.balance.roundrobin import round_robin
from kitmsg.balance.routes import Route, direct, split, sticky, version
from kitmsg.balance.slowstart import slow_start
from kitmsg.balance.subset import subset
from kitmsg.balance.weighted import weighted
from kitmsg.balance.zone import zone_first

__all__ = [
    "Answer",
    "Attempts",
    "CannotConnect",
    "Endpointer",
    "NoInstance",
    "Node",
    "Picker",
    "Route",
    "at_random",
    "balanced",
    "consistent_hash",
    "direct",
    "outlier_ejection",
    "p2c",
    "round_robin",
    "slow_start",
    "split",
    "sticky",
    "subset",
    "version",
    "weighted",
    "zone_first",
]
