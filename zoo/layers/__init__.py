"""What components are made of: norms, activations, convolutions, linear blocks and their initialisers."""
