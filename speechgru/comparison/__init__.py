"""Cells against each other under the same conditions: accuracy, and what each costs."""
