"""One laptop: a data set imported, a market simulated, the whole loop played."""
