"""Plugins: discovery, isolation, selection and names.

``plugins`` what is found; ``isolation`` running it; ``selection`` what the user chose; ``discovery`` finding it;
``names`` the registry that everything else asks.
"""

from mirembed.registry.isolation import plugin_code
from mirembed.registry.names import Clash, Registry
from mirembed.registry.plugins import HOOKS, HOST, BrokenPlugin, Kind, LeftOut, Plugin

__all__ = ["HOOKS", "HOST", "BrokenPlugin", "Clash", "Kind", "LeftOut", "Plugin", "Registry", "plugin_code"]
