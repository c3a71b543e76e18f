"""Tools for understanding a model: benchmarks, comparison of cells, inspection."""
