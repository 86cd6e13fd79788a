"""Plugins: finding them, choosing among them, and looking them up by name.

``plugins`` defines a plugin and how its code is run; ``discovery`` selects and loads plugins; ``names`` is the registry
that the rest of mirembed asks; ``descriptions`` describes a plugin without calling it.
"""

from mirembed.registry.names import Clash, Registry
from mirembed.registry.plugins import HOOKS, HOST, BrokenPlugin, Kind, LeftOut, Plugin, plugin_code

__all__ = ["HOOKS", "HOST", "BrokenPlugin", "Clash", "Kind", "LeftOut", "Plugin", "Registry", "plugin_code"]
