"""A stream through a model: backend protocol, recognizer, session, recording, verification."""
