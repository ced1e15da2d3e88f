"""The bundle without Juju: an engine, a local Kubernetes, the images."""
