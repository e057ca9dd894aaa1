"""Counting and timing.  `stats` is filled on every turn; backends read it."""
