"""Sound in: files, PCM, microphones and streams to mono float32 at the model's rate."""
