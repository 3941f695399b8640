"""The words every wing shares: frozen facts and ports, no I/O, no settings."""
