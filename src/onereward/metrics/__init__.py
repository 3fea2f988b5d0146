"""Numbers about editors and judges, each with its interval: one path for evaluation inside training and alone."""
