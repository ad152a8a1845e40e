"""The loop, closed in front of your eyes: serve, react, retrain, serve better."""
