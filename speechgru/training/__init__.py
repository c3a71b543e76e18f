"""Training: recipes, batches made on the device, the loop, checkpoints."""
