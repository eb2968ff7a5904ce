"""The built-in plugins, one class a file; found by name through the same entry points as everyone's."""
