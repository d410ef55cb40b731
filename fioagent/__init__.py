"""Certificate rotation and configuration agent for Foundries LmP devices."""

__version__ = "0.1.0"
