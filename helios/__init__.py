"""Helios: autonomous multi-asset trading, five explainable tiers. This package is the domain; it never imports Ray."""

__version__ = "0.1.0"
