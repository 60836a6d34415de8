"""A config's programs, compiled for devices that are here or named: memory, traffic, collectives,
kernels, and what they allow.
"""
