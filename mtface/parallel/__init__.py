"""Several devices and several processes: where arrays lie, how processes find each other and end.

Everything that asks the scheduler, the environment or the network is here.
"""
