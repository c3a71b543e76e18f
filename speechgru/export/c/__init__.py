"""Export of a trained model as C for microcontrollers: `source/` is written beside its tables."""
