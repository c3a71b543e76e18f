"""How good a model is: on clips, streams and sequences; tuning and calibration of its decoder."""
