"""Weights by name: the model that MODEL of the command line means."""
