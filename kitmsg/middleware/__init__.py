"""Behaviour around endpoints; one file, one middleware, one shape.

    timeout.py     gives up on a call after a while
    retry.py       tries again what failed for a reason that passes; has a budget
    hedge.py       a second try, to another instance, when the first takes unusually long
    breaker.py     stops calling a peer that fails several times in a row  (extra: breaker)
    ratio_breaker.py     ... that fails too large a share of calls
    adaptive_breaker.py  ... or sends it as many calls as it can answer
    hystrix.py     limits of time and concurrency, a circuit and a fallback
    fallback.py    another answer for a call that failed
    cache.py       keeps results for a while; equal calls at one time are one
    ratelimit.py   so many calls a second, here or in the whole fleet
    dedupe.py      runs a call once in the fleet, however often it is sent
    bulkhead.py    so many calls at once, with a bounded queue
    shed.py        refuses what would only wait, when the process is overloaded
    allow.py       only from somebody whom a policy lets in
    auth.py        only from somebody who is known                    (extra: auth)
    log.py         one structured line for each call
    metrics.py     counts and times calls for Prometheus              (extra: prometheus)

Each is a function that takes options and returns a `kitmsg.endpoints.Middleware`; each
works on both sides, around a server's endpoint or a client's (`allow` and `auth` on the
server's only).  `kitmsg.endpoints.chain` composes them, the outermost first.  None of
them knows another.

Around a service's endpoint that streams they are around the whole stream, to its last
item.  Around a client's call they are around its opening, where items come back; only a
`timeout` goes on, as the deadline of the stream.  Where a client sends items and gets one
result, they are around all of it.  `retry` repeats no stream of which an item went.

State (a bucket, a circuit, a queue, a cache) belongs to one wrapped endpoint: `rate_limit(100)`
on a service allows each endpoint of each instance 100 calls a second.  Only the budget
of `retry` is shared by all that one `retry` wraps, and a limit with a `shared` name by all
who name it.
"""

from kitmsg.middleware.adaptive_breaker import adaptive_breaker
from kitmsg.middleware.allow import allow
from kitmsg.middleware.auth import auth
from kitmsg.middleware.breaker import breaker
from kitmsg.middleware.bulkhead import bulkhead
from kitmsg.middleware.cache import cache
from kitmsg.middleware.dedupe import dedupe
from kitmsg.middleware.fallback import fallback
from kitmsg.middleware.hedge import hedge
from kitmsg.middleware.hystrix import hystrix
from kitmsg.middleware.log import log
from kitmsg.middleware.metrics import metrics
from kitmsg.middleware.ratelimit import rate_limit
from kitmsg.middleware.ratio_breaker import ratio_breaker
from kitmsg.middleware.retry import RetryBudget, retry
from kitmsg.middleware.shed import shed
from kitmsg.middleware.timeout import timeout

__all__ = [
    "RetryBudget",
    "adaptive_breaker",
    "allow",
    "auth",
    "breaker",
    "bulkhead",
    "cache",
    "dedupe",
    "fallback",
    "hedge",
    "hystrix",
    "log",
    "metrics",
    "rate_limit",
    "ratio_breaker",
    "retry",
    "shed",
    "timeout",
]
