"""A model as a static page that listens in the browser: no server, no PyTorch, nothing uploaded."""
