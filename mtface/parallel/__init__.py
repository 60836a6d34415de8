"""Several devices and several processes: where arrays live, and how processes connect and exit.

All code that consults the scheduler, the environment or the network is here.
"""
