"""What is shown while something goes on: `listen`'s panel and lines, a training run."""
