"""The platform's interfaces: one package each, with a model for each side and EXAMPLES."""
