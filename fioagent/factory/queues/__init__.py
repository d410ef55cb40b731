"""Event queues: what operators are told, and how it reaches them."""
