"""What can be typed, and what it does."""
