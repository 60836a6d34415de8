"""How a config becomes a job on this host, under Slurm or on Kubernetes. Nothing in mtface knows of
it; docs/cluster.md is the guide.
"""
