"""Log-posteriors to events: isolated word, detector, CTC beam search, grammar."""
