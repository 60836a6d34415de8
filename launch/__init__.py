"""Launchers: run a config as a job on this host, under Slurm or on Kubernetes. mtface does not
depend on this package; docs/cluster.md is the guide.
"""
