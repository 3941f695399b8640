"""Every setting: what it may be, and where it came from. Decides precedence, nothing else.

flags > environment (``ROUTER_*``) > ``.env`` > ``smarterrouter.toml`` > defaults. A setting of a
group has the group in its name: ``[vram] max_total_gb`` is ``ROUTER_VRAM_MAX_TOTAL_GB``. Read once,
in ``assembly`` or a command, and handed down in pieces.
"""

from smarterrouter.config.groups import (
    BackendSettings,
    ModelSettings,
    NamedModelSettings,
    NodeSettings,
    TimeoutSettings,
    VramSettings,
    WaitSettings,
)
from smarterrouter.config.names import (
    OF_THE_COMMAND_LINE,
    TABLES,
    leaves,
    unknown_variables,
    variable,
    variables,
)
from smarterrouter.config.settings import FAST_PREFERENCE, PREFIX, QUALITY_PREFERENCE, Settings
from smarterrouter.config.sources import FILE_NAME, find_file, load, read_file
from smarterrouter.config.values import KINDS, Key, Kind, Strategy, Url, UserPath

__all__ = [
    "FAST_PREFERENCE",
    "FILE_NAME",
    "KINDS",
    "OF_THE_COMMAND_LINE",
    "PREFIX",
    "QUALITY_PREFERENCE",
    "TABLES",
    "BackendSettings",
    "Key",
    "Kind",
    "ModelSettings",
    "NamedModelSettings",
    "NodeSettings",
    "Settings",
    "Strategy",
    "TimeoutSettings",
    "Url",
    "UserPath",
    "VramSettings",
    "WaitSettings",
    "find_file",
    "leaves",
    "load",
    "read_file",
    "unknown_variables",
    "variable",
    "variables",
]
