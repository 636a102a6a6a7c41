"""Other simulators of federated learning, on the workloads of this one."""
