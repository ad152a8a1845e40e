"""Commands of their own beside the steps of a retraining."""
