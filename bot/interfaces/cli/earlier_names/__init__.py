"""Modules that earlier versions run in this one when they update to it, for the wheel to put under their old names."""
