"""The platform's API server: organizations, projects and people, and what each may do."""

__version__ = "1.0.0"
