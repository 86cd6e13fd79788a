"""Plugins: finding them, choosing among them, and looking them up by name.

``plugins`` defines and describes a plugin, and runs its code; ``source`` finds its source; ``discovery`` selects and
loads plugins; ``names`` is the registry that the rest of mirembed asks.
"""

from mirembed.registry.names import Registry
from mirembed.registry.plugins import HOOKS, HOST, BrokenPlugin, Kind, LeftOut, Plugin, plugin_code

__all__ = ["HOOKS", "HOST", "BrokenPlugin", "Kind", "LeftOut", "Plugin", "Registry", "plugin_code"]
