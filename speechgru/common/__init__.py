"""What every room uses: atomic files, locks, strict settings, error wording, progress."""
