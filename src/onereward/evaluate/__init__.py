"""Held-out figures: editors by a scorer on the same triplets and noise, judges by preferences that they never saw."""
