"""Power cuts, kills and faults, counted: python3 -m tests crash."""
