"""Decoders, from log-posteriors to events: isolated word, detector, CTC beam search, grammar."""

from speechgru.decoding.events import Decoder, Event

__all__ = ["Decoder", "Event"]
