"""Samples to log-posteriors: features, fronts, recurrent cells and the network."""
