"""Recipes, one task a file: read one, copy it, change it. Installed as `bert4k.tasks`."""
