"""What is computed locally, and how the server moves."""

from tacit.algorithms.fedavg import Algorithm, FedAvg
from tacit.algorithms.server import ServerAdagrad, ServerAdam, ServerOptimizer, ServerSGD, ServerYogi

__all__ = ["Algorithm", "FedAvg", "ServerAdagrad", "ServerAdam", "ServerOptimizer", "ServerSGD", "ServerYogi"]
