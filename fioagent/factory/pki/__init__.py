"""The factory's certificates: the cloud's part and the operator's."""
