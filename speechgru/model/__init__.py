"""The network, from samples to log-posteriors: features, fronts, recurrent cells, heads."""
