"""How good a model is: clip metrics, the carried state, reports and pictures."""
