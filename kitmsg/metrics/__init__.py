"""Counting and timing: plain numbers while calls run, families when a backend reads.

    provider.py    the seam: `Counter`, `Gauge`, `Histogram`, and the `Provider` of them
    memory.py      the provider that everything counts in and every backend reads
    names.py       names of metrics and labels: those that a page can hold
    multi.py       a provider that counts in several
    discard.py     a provider that counts nothing

    stats.py       what happened at one endpoint of a service; filled on every turn
    calls.py       calls at one side: counts, durations, in flight
    clients.py     calls that the process makes on the bus
    resilience.py  refusals, circuits and second answers of the process's middlewares
    families.py    families and their samples; `Registry`: what is shown together
    exemplars.py   trace of a message, for the exemplars of a histogram

    prometheus.py  backend: Prometheus' text format and OpenMetrics, read at ``/metrics``
    variables.py   backend: JSON as Go's expvar, read at ``/debug/vars``
    otlp.py        backend: an OpenTelemetry collector, and through it CloudWatch and others
    statsd.py      backend: StatsD
    dogstatsd.py   backend: a Datadog agent
    graphite.py    backend: Graphite
    influx.py      backend: InfluxDB, by UDP or HTTP

    address.py     addresses such as ``statsd://host:8125``, and the seam of a backend
    push.py        push loops: interval, last flush, a receiver that is gone
    window.py      increments since the last flush
    spread.py      values that stand for the observations in buckets
    lines.py       lines of text in batches, and names made of labels
    senders.py     UDP and TCP

One naming family: ``kitmsg_{server,client,gateway,upstream}_{requests_total,
duration_seconds,in_flight}``, with the labels service, endpoint and code, and one list of
bounds, `kitmsg.metrics.stats.BOUNDS_SECONDS`.  An upstream is a server on the bus, whose
turns are counted as any; its own family has the calls that went to the server elsewhere.
"""

from kitmsg.metrics.provider import Counter, Gauge, Histogram, Provider

__all__ = ["Counter", "Gauge", "Histogram", "Provider"]
