"""What every room uses: atomic files, strict settings, locks, threads, progress."""
