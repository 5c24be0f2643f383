"""The in-process engine: weights, cache, forward pass and sampling."""

from thinkling.generate.native.engine import NativeEngine

__all__ = ["NativeEngine"]
