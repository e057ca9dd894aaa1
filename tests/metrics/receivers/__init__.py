"""Real receivers of metrics, and what each says that it got."""
