"""The servers that devices and operators talk to."""
