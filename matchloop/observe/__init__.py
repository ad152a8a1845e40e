"""What a running service says about itself: metrics and logs."""
