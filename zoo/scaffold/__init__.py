"""The start of a plugin: a package with one component, written from templates."""

from zoo.scaffold.plugin import new_plugin

__all__ = ["new_plugin"]
