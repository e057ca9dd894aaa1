"""Examples, each of which runs as it stands, from the root of the repository."""
