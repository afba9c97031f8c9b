"""Trained weights in a model that was changed on purpose: what is kept, adapted, fresh and dropped."""
