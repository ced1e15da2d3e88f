"""The programs of the image: what watches istiod, and what follows that from the charm's pod."""
