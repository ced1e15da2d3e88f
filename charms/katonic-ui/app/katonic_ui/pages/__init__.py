"""The pages: each module answers what belongs to one part of the platform."""
