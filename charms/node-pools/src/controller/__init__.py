"""Keeps the pods of a namespace on their pools of nodes, and tells how they stand."""
