"""Pictures of layer results."""
