"""What the agent costs, and what a fleet of it costs others: measured, not asserted.

``python3 -m tests bench`` runs all of them, ``python3 -m tests bench NAME`` one.
"""
