"""A shop of three services that tell each other what happened, and lose nothing of it.

README.md    the way through it, command by command
events.py    what happens: an order is placed, an order is paid
database.py  tables, and sessions on SQLite or PostgreSQL
orders.py    takes orders; its events leave with its transactions
payments.py  charges each order once, and refuses what is over the limit
mail.py      says thank you, asks for a review later, and sums up every morning
"""
