"""Own words on the page: record them, sort caught clips, train; off unless a directory is given."""
