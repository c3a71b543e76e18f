"""Live output: the panel and lines of `listen`, a training run, a guided recording."""
