"""What a person sees of the platform, and who may pass its gateway."""
