"""Planted faults that prove a set-up before it is trusted. A fault is one file and one line in ``catalogue.py``."""
