"""Finding candidates: content, ALS, Two-Tower, popular; fusion and the order of methods."""
