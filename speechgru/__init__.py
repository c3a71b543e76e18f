"""speechgru: spoken commands, recognized frame by frame with a recurrent network."""

__version__ = "0.1.0"
