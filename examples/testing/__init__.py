"""How services are tested: ``pytest examples/testing``.

test_greeter.py  one service, alone
test_orders.py   a service and fakes of those it calls; time that passes at once
"""
