"""How fast it is, beside its peers: ``python -m benchmarks VERB``.

    __main__.py  the verbs and their options
    compare.py   `rpc` and `http`: peers measured in turns, in one run
    fleet.py     the processes of a peer: start, CPU, end
    goals.py     what is wanted of them
    table.py     tables for people, ratios with their spread
    chart.py     bar charts
    readme.py    the README's chart and the paragraph beside it, from one run
    layers.py    what each default costs a server
    mailbox.py codec.py idle.py   parts of kitmsg alone
    followers.py followers of one event over HTTP, many beside one
    guard.py     a quick look at the cost of the layers, for CI to print
    events.py    events: stored, consumed, told, heard
    faults.py    faults under a steady load; relay.py is the network that it cuts
    figures/     promises with a number in them, each measured
    peers/       the programs that are compared

Numbers of one run compare with each other; those of another day or machine do not.
"""
