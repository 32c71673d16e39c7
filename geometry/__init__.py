"""What shape it has: decompositions and measures of recorded activations, layer by layer."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
