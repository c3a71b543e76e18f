"""Streams through a model: the `Backend` protocol, recognizer, session, hooks, verification."""
