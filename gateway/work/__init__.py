"""Towards the Cog servers: the worker beside each, coglet's quirks in one place, the sweep."""
