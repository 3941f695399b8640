"""smarterrouter: one address in front of every model on your own hardware."""

__version__ = "0.1.0"
