"""The one place where concrete parts are built and wired, from settings.

``engine`` puts everything together; ``backends``, ``machines`` (the devices of every node) and
``demands`` (what each model takes) build its parts.
"""

from smarterrouter.assembly.backends import build_backends
from smarterrouter.assembly.engine import Engine

__all__ = ["Engine", "build_backends"]
