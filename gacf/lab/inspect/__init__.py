"""Inspects an experiment: its progress, its profile, the drawing of its games."""
