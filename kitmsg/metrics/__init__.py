"""Counting and timing: plain integers while calls run, families when a backend reads.

    stats.py       what happened at one endpoint of a service; filled on every turn
    calls.py       calls at one side: counts, durations, in flight
    resilience.py  refusals, circuits and second answers of the process's middlewares
    families.py    families and their samples; `Registry`: what is shown together
    prometheus.py  families in Prometheus' text format

One naming family: ``kitmsg_{server,client,gateway,upstream}_{requests_total,
duration_seconds,in_flight}`` with the labels service, endpoint and code, and one list of
bounds, `kitmsg.metrics.stats.BOUNDS_SECONDS`.
"""
