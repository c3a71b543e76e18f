"""Recordings with their words: directories, manifests, protocols, packed samples."""
