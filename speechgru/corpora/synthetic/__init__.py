"""Synthetic speech for word folders: engines, words that sound similar, and what is written."""
